//! Hostile and odd layers.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::Path;

use proptest::prelude::*;
use rustix::fs::{FileType, Mode};
use tar::{EntryType, Header};
use tempfile::TempDir;

use super::*;

/// An archive under construction; unlike `tar::Builder` it writes whatever name it is told.
#[derive(Default)]
struct Forge {
    bytes: Vec<u8>,
}

impl Forge {
    fn entry(mut self, kind: EntryType, name: &[u8], link: &[u8], mode: u32, content: &[u8]) -> Self {
        if name.len() > 100 {
            self = self.entry(EntryType::GNULongName, b"././@LongLink", b"", 0, &[name, b"\0"].concat());
        }
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000);
        header.as_old_mut().name[..name.len().min(100)].copy_from_slice(&name[..name.len().min(100)]);
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
        header.set_cksum();
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, name: &str, content: &str) -> Self {
        self.entry(EntryType::Regular, name.as_bytes(), b"", 0o644, content.as_bytes())
    }

    fn dir(self, name: &str) -> Self {
        self.entry(EntryType::Directory, name.as_bytes(), b"", 0o755, b"")
    }

    fn link(self, kind: EntryType, name: &str, target: &str) -> Self {
        self.entry(kind, name.as_bytes(), target.as_bytes(), 0o777, b"")
    }

    fn attribute(self, name: &str, value: &str) -> Self {
        let record = format!(" SCHILY.xattr.{name}={value}\n");
        let length = (1..).find(|length| format!("{length}{record}").len() == *length).unwrap();
        self.entry(EntryType::XHeader, b"pax", b"", 0, format!("{length}{record}").as_bytes())
    }
}

/// A directory to unpack in, beside which there is something to harm.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("root")).unwrap();
        fs::create_dir(dir.path().join("outside")).unwrap();
        fs::write(dir.path().join("outside/secret"), "untouched").unwrap();
        Self { dir }
    }

    fn root(&self) -> std::path::PathBuf {
        self.dir.path().join("root")
    }

    fn unpack(&self, forge: Forge) -> Result<(), UnpackError> {
        self.unpack_over(forge, &[])
    }

    fn unpack_over(&self, mut forge: Forge, below: &[&Path]) -> Result<(), UnpackError> {
        forge.bytes.resize(forge.bytes.len() + 1024, 0);
        let mut tree = Tree::open(&self.root(), below, is_root()).unwrap();
        unpack(&*forge.bytes, &mut tree, Meaning::Layer, Limits { bytes: 1 << 20, entries: 100 })
    }

    /// Everything outside the root is as it was.
    fn assert_unharmed(&self) {
        let names = |path: &Path| -> Vec<_> { fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect() };
        let mut around = names(self.dir.path());
        around.sort();
        assert_eq!(around, ["outside", "root"]);
        assert_eq!(names(&self.dir.path().join("outside")), ["secret"]);
        let secret = self.dir.path().join("outside/secret");
        assert_eq!(fs::read_to_string(&secret).unwrap(), "untouched");
        assert_eq!(fs::metadata(secret).unwrap().nlink(), 1);
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.root().join(name)).unwrap()
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn skip_unless_root() -> bool {
    if !is_root() {
        eprintln!("skipped: only root can make what overlay file systems understand");
    }
    !is_root()
}

#[test]
fn names_that_lead_out_are_refused() {
    for name in ["../outside/evil", "a/../../outside/evil", "/../outside/evil", "./../outside/evil", "a/..", ".."] {
        let place = Place::new();
        let refused = place.unpack(Forge::default().dir("a").file(name, "evil"));
        assert!(matches!(refused, Err(UnpackError::Escapes { .. })), "{name}: {refused:?}");
        place.assert_unharmed();
    }
}

#[test]
fn absolute_names_are_taken_within_the_root() {
    let place = Place::new();
    place.unpack(Forge::default().file("/etc/passwd", "mine").file("//x//y", "also").file("./z", "too")).unwrap();
    assert_eq!([place.read("etc/passwd"), place.read("x/y"), place.read("z")], ["mine", "also", "too"]);
    place.assert_unharmed();
}

#[test]
fn links_are_followed_within_the_root_only() {
    let place = Place::new();
    let outside = place.dir.path().join("outside").to_str().unwrap().to_owned();
    for target in [outside.as_str(), "../outside", "../../../../../../../outside", "/../outside", "./../outside/."] {
        let forge = Forge::default().link(EntryType::Symlink, "link", target).file("link/evil", "evil").file("link/secret", "evil");
        place.unpack(forge).unwrap();
        place.assert_unharmed();
        assert_eq!(fs::read_link(place.root().join("link")).unwrap(), Path::new(target), "the link itself is kept as it is");
    }
}

#[test]
fn links_in_a_circle_and_without_end_are_refused() {
    for links in [vec![("a", "b"), ("b", "a")], vec![("a", "a/a/a")], vec![("a", "./a")]] {
        let place = Place::new();
        let forge = links.iter().fold(Forge::default(), |forge, (name, target)| forge.link(EntryType::Symlink, name, target));
        assert!(matches!(place.unpack(forge.file("a/x", "")), Err(UnpackError::Entry { .. })), "{links:?}");
    }
}

#[test]
fn a_file_replaces_a_link_and_never_writes_through_it() {
    let place = Place::new();
    let forge = Forge::default().link(EntryType::Symlink, "x", "../outside/secret").file("x", "mine");
    place.unpack(forge).unwrap();
    place.assert_unharmed();
    assert_eq!(place.read("x"), "mine");
    let place = Place::new();
    place.unpack(Forge::default().link(EntryType::Symlink, "d", "../outside").dir("d").file("d/x", "mine")).unwrap();
    place.assert_unharmed();
    assert!(place.root().join("d").symlink_metadata().unwrap().is_dir());
}

#[test]
fn replacing_a_directory_by_a_link_takes_nothing_along() {
    let place = Place::new();
    let forge = Forge::default().file("d/x", "1").link(EntryType::Symlink, "d", "../outside").file("d/y", "2").file("e", "3");
    place.unpack(forge).unwrap();
    place.assert_unharmed();
}

#[test]
fn hard_links_lead_to_what_the_layer_holds_and_nowhere_else() {
    for target in ["../outside/secret", "/../outside/secret", "missing", "", ".", "link/secret", "d"] {
        let place = Place::new();
        let forge = Forge::default().dir("d").link(EntryType::Symlink, "link", "../outside").link(EntryType::Link, "hard", target);
        let refused = place.unpack(forge);
        assert!(matches!(refused, Err(UnpackError::LinkMissing { .. } | UnpackError::Escapes { .. })), "{target}: {refused:?}");
        place.assert_unharmed();
    }
    // A hard link to a symbolic link is another name for the link, not for what it leads to.
    let place = Place::new();
    let forge = Forge::default().link(EntryType::Symlink, "s", "../outside/secret").link(EntryType::Link, "h", "s").file("h", "mine");
    place.unpack(forge).unwrap();
    place.assert_unharmed();
    let place = Place::new();
    place.unpack(Forge::default().file("a", "same").link(EntryType::Link, "d/b", "/a")).unwrap();
    assert_eq!(fs::metadata(place.root().join("a")).unwrap().ino(), fs::metadata(place.root().join("d/b")).unwrap().ino());
}

#[test]
fn devices_are_left_out() {
    let place = Place::new();
    let forge = [EntryType::Char, EntryType::Block].into_iter().fold(Forge::default(), |forge, kind| forge.link(kind, "dev/sda", ""));
    place.unpack(forge.entry(EntryType::Fifo, b"pipe", b"", 0o600, b"")).unwrap();
    assert!(!place.root().join("dev/sda").exists());
    assert!(fs::metadata(place.root().join("pipe")).unwrap().file_type().is_fifo());
}

#[test]
fn what_a_layer_holds_is_bounded() {
    let place = Place::new();
    let large = "x".repeat(700_000);
    let refused = place.unpack(Forge::default().file("a", &large).file("b", &large));
    assert!(matches!(refused, Err(UnpackError::TooLarge { .. })), "{refused:?}");
    let many = (0..101).fold(Forge::default(), |forge, number| forge.file(&number.to_string(), ""));
    assert!(matches!(place.unpack(many), Err(UnpackError::TooMany { .. })));
    let deep = Forge::default().file(&"d/".repeat(300), "");
    assert!(matches!(place.unpack(deep), Err(UnpackError::Entry { .. })));
    let long = Forge::default().file(&"d".repeat(5000), "");
    assert!(matches!(place.unpack(long), Err(UnpackError::PathTooLong { .. })));
}

#[test]
fn headers_that_never_end_are_refused_before_they_fill_the_memory() {
    let place = Place::new();
    let endless = Forge::default().entry(EntryType::GNULongName, b"././@LongLink", b"", 0, &vec![b'a'; 3 << 20]).file("x", "");
    assert!(matches!(place.unpack(endless), Err(UnpackError::Damaged(_))));
}

#[test]
fn a_truncated_archive_is_refused() {
    let place = Place::new();
    let forge = Forge::default().file("a", "content").file("b", &"content".repeat(500));
    let cut = Forge { bytes: forge.bytes[..2000].to_vec() };
    let mut tree = Tree::open(&place.root(), &[], is_root()).unwrap();
    assert!(unpack(&*cut.bytes, &mut tree, Meaning::Layer, LAYER).is_err());
}

#[test]
fn whiteouts_become_those_of_overlay_file_systems() {
    if skip_unless_root() {
        return;
    }
    let place = Place::new();
    let forge = Forge::default().file("etc/.wh.passwd", "").dir("opt").file("opt/.wh..wh..opq", "").file("opt/new", "1");
    place.unpack(forge.file(".wh..wh.plnk", "")).unwrap();
    let hidden = fs::symlink_metadata(place.root().join("etc/passwd")).unwrap();
    assert!(hidden.file_type().is_char_device() && hidden.rdev() == 0);
    assert!(is_opaque(&place.root().join("opt")) && !is_opaque(&place.root().join("etc")));
    assert_eq!(place.read("opt/new"), "1");
    assert_eq!(fs::read_dir(place.root()).unwrap().count(), 2, "marks of other file systems are left out");
}

fn is_opaque(path: &Path) -> bool {
    let mut value = [0; 8];
    rustix::fs::lgetxattr(path, "trusted.overlay.opaque", &mut value[..]).is_ok_and(|length| &value[..length] == b"y")
}

#[test]
fn whiteouts_hide_what_is_below_and_not_what_the_layer_brings() {
    if skip_unless_root() {
        return;
    }
    let place = Place::new();
    let forge =
        Forge::default().file("a", "kept").file(".wh.a", "").file("d/x", "kept").file(".wh.d", "").file(".wh.e", "").file("e/x", "");
    place.unpack(forge.file(".wh.f", "").dir("f").file("h", "").file(".wh.g", "").file("g", "new")).unwrap();
    assert_eq!([place.read("a"), place.read("d/x"), place.read("g")], ["kept", "kept", "new"]);
    assert!(["d", "e", "f"].iter().all(|name| is_opaque(&place.root().join(name))));
}

#[test]
fn whiteouts_that_lead_elsewhere_are_refused() {
    for name in [".wh.", ".wh..", ".wh...", "d/.wh..."] {
        let place = Place::new();
        let refused = place.unpack(Forge::default().file(name, ""));
        assert!(matches!(refused, Err(UnpackError::BadWhiteout { .. })), "{name}: {refused:?}");
        place.assert_unharmed();
    }
    let place = Place::new();
    place.unpack(Forge::default().link(EntryType::Symlink, "l", "../outside").file("l/.wh.secret", "").file("l/.wh..wh..opq", "")).ok();
    place.assert_unharmed();
}

#[test]
fn attributes_that_steer_the_file_system_are_left_out_and_others_kept() {
    if skip_unless_root() {
        return;
    }
    let place = Place::new();
    let mut forge = Forge::default();
    for name in
        ["trusted.overlay.redirect", "trusted.overlay.metacopy", "user.overlay.opaque", "system.posix_acl_access", "security.selinux"]
    {
        forge = forge.attribute(name, "y").file("file", "x");
    }
    place.unpack(forge.attribute("user.mine", "kept").file("mine", "x")).unwrap();
    let mut names = vec![0; 1000];
    let length = rustix::fs::llistxattr(place.root().join("file"), &mut names[..]).unwrap();
    assert_eq!(length, 0, "{:?}", String::from_utf8_lossy(&names[..length]));
    let mut value = [0; 8];
    let length = rustix::fs::lgetxattr(place.root().join("mine"), "user.mine", &mut value[..]).unwrap();
    assert_eq!(&value[..length], b"kept");
}

#[test]
fn modes_times_and_capabilities_are_kept() {
    if skip_unless_root() {
        return;
    }
    let place = Place::new();
    let capability = "\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let forge = Forge::default().entry(EntryType::Directory, b"tmp", b"", 0o1777, b"");
    let forge = forge.entry(EntryType::Regular, b"tmp/su", b"", 0o6755, b"x").attribute("security.capability", capability);
    place.unpack(forge.entry(EntryType::Regular, b"ping", b"", 0o755, b"x")).unwrap();
    let metadata = |name: &str| fs::metadata(place.root().join(name)).unwrap();
    assert_eq!([metadata("tmp").mode() & 0o7777, metadata("tmp/su").mode() & 0o7777], [0o1777, 0o6755]);
    assert_eq!([metadata("tmp").mtime(), metadata("tmp/su").mtime()], [1_000_000; 2]);
    let mut value = [0; 64];
    assert!(rustix::fs::lgetxattr(place.root().join("ping"), "security.capability", &mut value[..]).is_ok_and(|length| length >= 20));
}

#[test]
fn directories_that_a_layer_does_not_mention_are_as_they_are_below() {
    if skip_unless_root() {
        return;
    }
    let (place, below) = (Place::new(), tempfile::tempdir().unwrap());
    fs::create_dir_all(below.path().join("tmp")).unwrap();
    fs::create_dir_all(below.path().join("usr/bin")).unwrap();
    let at = fs::File::open(below.path()).unwrap();
    rustix::fs::chmodat(&at, "tmp", Mode::from_raw_mode(0o1777), rustix::fs::AtFlags::empty()).unwrap();
    symlink("usr/bin", below.path().join("bin")).unwrap();
    place.unpack_over(Forge::default().file("tmp/x", "1").file("bin/tool", "2"), &[below.path()]).unwrap();
    assert_eq!(fs::metadata(place.root().join("tmp")).unwrap().mode() & 0o7777, 0o1777);
    assert_eq!(fs::read_link(place.root().join("bin")).unwrap(), Path::new("usr/bin"));
    assert_eq!(place.read("usr/bin/tool"), "2");
    assert_eq!(FileType::from_raw_mode(fs::metadata(place.root().join("usr")).unwrap().mode()), FileType::Directory);
}

fn component() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "..", ".", "", ".wh.a", ".wh..wh..opq", "link", "outside", "secret"]).prop_map(str::to_owned)
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(component(), 1..5).prop_map(|components| components.join("/"))
}

fn kind() -> impl Strategy<Value = EntryType> {
    use EntryType::{Directory, Fifo, Link, Regular, Symlink};
    prop::sample::select(vec![Regular, Directory, Symlink, Link, Fifo])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn no_archive_touches_anything_outside(entries in prop::collection::vec((kind(), path(), path()), 1..12)) {
        let place = Place::new();
        for (kind, name, target) in entries {
            let mut forge = Forge::default();
            let content = if kind == EntryType::Regular { "evil" } else { "" };
            forge = forge.entry(kind, name.as_bytes(), target.as_bytes(), 0o644, content.as_bytes());
            // What is refused ends its own archive only: the next goes on in the same place.
            place.unpack(forge).ok();
        }
        place.assert_unharmed();
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        Place::new().unpack(Forge { bytes }).ok();
    }
}
