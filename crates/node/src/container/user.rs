//! Who a container's first process runs as. Names are looked up in the image, without following a link out of it.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use k8s_openapi::api::core::v1::{PodSecurityContext, SecurityContext};
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::Mode;
use runtime::User;

use super::SpecificationError;

/// No user database is longer.
const MAX_FILE: u64 = 1 << 20;

/// An image's user database.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accounts {
    pub passwd: String,
    pub group: String,
}

impl Accounts {
    /// Reads them below `root`; what can't be read is empty.
    pub fn read(root: &Path) -> Self {
        let read = |path: &str| read_inside(root, path).unwrap_or_default();
        Self { passwd: read("etc/passwd"), group: read("etc/group") }
    }

    fn users(&self) -> impl Iterator<Item = (&str, u32, u32)> {
        records(&self.passwd).filter_map(|fields| Some((*fields.first()?, fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?)))
    }

    fn groups(&self) -> impl Iterator<Item = (&str, u32, &str)> {
        records(&self.group).filter_map(|fields| Some((*fields.first()?, fields.get(2)?.parse().ok()?, *fields.get(3)?)))
    }
}

fn records(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().map(|line| line.split(':').collect())
}

/// Reads a file as a process with this root would: no link leads out.
fn read_inside(root: &Path, path: &str) -> std::io::Result<String> {
    let directory = nix::fcntl::open(root, OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let file = File::from(openat2(directory, path, how)?);
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The user: the container's, else the pod's, else the image's.
pub(crate) fn resolve(
    pod: Option<&PodSecurityContext>,
    container: Option<&SecurityContext>,
    image_user: &str,
    accounts: &Accounts,
) -> Result<User, SpecificationError> {
    let pod = pod.cloned().unwrap_or_default();
    let container = container.cloned().unwrap_or_default();
    let number = |own: Option<i64>, of_pod: Option<i64>| own.or(of_pod).map(|id| u32::try_from(id).unwrap_or(u32::MAX));
    let chosen = number(container.run_as_user, pod.run_as_user);
    let (name, group_name) = image_user.split_once(':').unwrap_or((image_user, ""));
    let non_root = container.run_as_non_root.or(pod.run_as_non_root) == Some(true);
    if non_root && chosen.is_none() && !name.is_empty() && name.parse::<u32>().is_err() {
        return Err(SpecificationError::UserNotNumeric(name.to_owned()));
    }
    let (uid, entry) = match chosen {
        Some(uid) => (uid, accounts.users().find(|(_, id, _)| *id == uid)),
        None => by_name(name, accounts)?,
    };
    if non_root && uid == 0 {
        return Err(SpecificationError::RunsAsRoot);
    }
    let image_group = if chosen.is_none() { group(group_name, accounts)? } else { None };
    let gid = number(container.run_as_group, pod.run_as_group).or(image_group).or(entry.map(|(_, _, gid)| gid)).unwrap_or(0);
    Ok(User { uid, gid, groups: groups(&pod, entry.map(|(name, _, _)| name), accounts) })
}

type Entry<'a> = Option<(&'a str, u32, u32)>;

fn by_name<'a>(name: &str, accounts: &'a Accounts) -> Result<(u32, Entry<'a>), SpecificationError> {
    let entry = accounts.users().find(|(login, id, _)| *login == name || id.to_string() == name);
    match (name, name.parse(), entry) {
        ("", ..) => Ok((0, accounts.users().find(|(_, id, _)| *id == 0))),
        (_, Ok(uid), entry) => Ok((uid, entry)),
        (_, _, Some((login, uid, gid))) => Ok((uid, Some((login, uid, gid)))),
        _ => Err(SpecificationError::NoUser(name.to_owned())),
    }
}

fn group(name: &str, accounts: &Accounts) -> Result<Option<u32>, SpecificationError> {
    if name.is_empty() {
        return Ok(None);
    }
    let entry = accounts.groups().find(|(group, _, _)| *group == name).map(|(_, gid, _)| gid);
    match name.parse().ok().or(entry) {
        Some(gid) => Ok(Some(gid)),
        None => Err(SpecificationError::NoGroup(name.to_owned())),
    }
}

/// The groups the image gives the user (unless the policy is Strict), and those the pod adds.
fn groups(pod: &PodSecurityContext, login: Option<&str>, accounts: &Accounts) -> Vec<u32> {
    let strict = pod.supplemental_groups_policy.as_deref() == Some("Strict");
    let of_image = accounts.groups().filter(|(_, _, members)| login.is_some_and(|login| members.split(',').any(|member| member == login)));
    let mut all: Vec<u32> = if strict { Vec::new() } else { of_image.map(|(_, gid, _)| gid).collect() };
    let added = pod.supplemental_groups.iter().flatten().chain(&pod.fs_group);
    all.extend(added.filter_map(|gid| u32::try_from(*gid).ok()));
    all.sort_unstable();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        Accounts {
            passwd: "root:x:0:0::/root:/bin/sh\nredis:x:999:998::/:/bin/false\nbroken".to_owned(),
            group: "redis:x:998:\nextra:x:500:redis,other\n".to_owned(),
        }
    }

    fn user(image: &str, pod: PodSecurityContext, container: SecurityContext) -> Result<(u32, u32, Vec<u32>), SpecificationError> {
        resolve(Some(&pod), Some(&container), image, &accounts()).map(|user| (user.uid, user.gid, user.groups))
    }

    #[test]
    fn names_and_numbers_are_looked_up_in_the_image() {
        let of = |image| user(image, PodSecurityContext::default(), SecurityContext::default());
        assert_eq!(of(""), Ok((0, 0, vec![])));
        assert_eq!(of("redis"), Ok((999, 998, vec![500])));
        assert_eq!(of("999"), Ok((999, 998, vec![500])));
        assert_eq!(of("1234:redis"), Ok((1234, 998, vec![])));
        assert_eq!(of("nobody"), Err(SpecificationError::NoUser("nobody".to_owned())));
        assert_eq!(of("redis:none"), Err(SpecificationError::NoGroup("none".to_owned())));
    }

    #[test]
    fn the_specification_goes_before_the_image() {
        let pod =
            PodSecurityContext { run_as_user: Some(7), fs_group: Some(2000), supplemental_groups: Some(vec![30]), ..Default::default() };
        assert_eq!(user("redis", pod.clone(), SecurityContext::default()), Ok((7, 0, vec![30, 2000])));
        let own = SecurityContext { run_as_user: Some(999), run_as_group: Some(1), ..Default::default() };
        assert_eq!(user("", pod, own), Ok((999, 1, vec![30, 500, 2000])));
    }

    #[test]
    fn run_as_non_root_is_verified() {
        let strict = || PodSecurityContext { run_as_non_root: Some(true), ..Default::default() };
        assert_eq!(user("", strict(), SecurityContext::default()), Err(SpecificationError::RunsAsRoot));
        assert_eq!(user("redis", strict(), SecurityContext::default()), Err(SpecificationError::UserNotNumeric("redis".to_owned())));
        assert!(user("999", strict(), SecurityContext::default()).is_ok());
    }

    #[test]
    fn links_in_an_image_stay_inside_it() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", root.path().join("etc/passwd")).unwrap();
        std::fs::write(root.path().join("etc/hostname"), "inside").unwrap();
        assert_eq!(read_inside(root.path(), "etc/passwd").unwrap(), "inside");
        assert_eq!(Accounts::read(root.path()).group, "");
    }
}
