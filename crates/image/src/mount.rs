//! Root file systems of containers: overlays of an image's layers and a directory of the container's own.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, UnmountFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen, mount, move_mount, unmount,
};

use crate::ImageError;
use crate::content::{Content, failed, make_dir};
use crate::digest::Digest;

/// The longest identifier of a container, in bytes.
const LONGEST_ID: usize = 128;

/// The longest text of mount options the kernel takes.
const LONGEST_OPTIONS: usize = 4095;

fn checked(container: &str) -> Result<(), ImageError> {
    let valid = !container.is_empty()
        && container.len() <= LONGEST_ID
        && !container.starts_with('.')
        && container.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    if valid { Ok(()) } else { Err(ImageError::BadContainer(container.to_owned())) }
}

/// Mounts a fresh root for a container. When it is mounted from the same layers already, that is it.
pub(crate) fn mount_root(content: &Content, layers: &[Digest], container: &str) -> Result<PathBuf, ImageError> {
    checked(container)?;
    let _kept = content.keep_layers()?;
    let home = content.containers().join(container);
    let root = home.join("root");
    if is_mount(&root)? {
        let same = content.container_layers(container)? == layers;
        return if same { Ok(root) } else { Err(ImageError::Mounted(container.to_owned())) };
    }
    remove(&home)?;
    for part in ["upper", "work", "root"] {
        make_dir(&home.join(part))?;
    }
    let upper = home.join("upper");
    let like_image = layers.last().map(|top| fs::metadata(content.layer(top)));
    if let Some(metadata) = like_image.transpose().map_err(failed("read", &upper))? {
        fs::set_permissions(&upper, metadata.permissions()).map_err(failed("change", &upper))?;
    }
    let text = serde_json::to_vec(layers).map_err(|source| ImageError::Document { what: "the layers of a container", source })?;
    fs::write(home.join("layers"), text).map_err(failed("write", &home))?;
    let lower: Vec<PathBuf> = layers.iter().rev().map(|layer| content.layer(layer)).collect();
    overlay(&lower, &home, &root).map_err(|source| ImageError::Mount { container: container.to_owned(), source })?;
    Ok(root)
}

/// Unmounts the root of a container and removes what it has written. Nothing to do is fine.
pub(crate) fn unmount_root(content: &Content, container: &str) -> Result<(), ImageError> {
    checked(container)?;
    let home = content.containers().join(container);
    let root = home.join("root");
    while is_mount(&root)? {
        match unmount(&root, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) | Err(Errno::INVAL) => {}
            Err(errno) => return Err(ImageError::Mount { container: container.to_owned(), source: errno.into() }),
        }
    }
    remove(&home)
}

fn remove(home: &Path) -> Result<(), ImageError> {
    match fs::remove_dir_all(home) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", home)(error)),
        _ => Ok(()),
    }
}

pub(crate) fn is_mount(root: &Path) -> Result<bool, ImageError> {
    match rustix::fs::statx(CWD, root, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT, StatxFlags::BASIC_STATS) {
        Ok(stat) => Ok(stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(failed("look at", root)(errno.into())),
    }
}

fn overlay(lower: &[PathBuf], home: &Path, root: &Path) -> io::Result<()> {
    match overlay_by_parts(lower, home, root) {
        // Kernels before 6.7 take the layers in one text only.
        Err(Errno::INVAL | Errno::NOSYS) => overlay_by_text(lower, home, root),
        outcome => Ok(outcome?),
    }
}

fn overlay_by_parts(lower: &[PathBuf], home: &Path, root: &Path) -> Result<(), Errno> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let context = context.as_fd();
    fsconfig_set_string(context, "source", "overlay")?;
    for layer in lower {
        fsconfig_set_string(context, "lowerdir+", layer)?;
    }
    fsconfig_set_string(context, "upperdir", home.join("upper"))?;
    fsconfig_set_string(context, "workdir", home.join("work"))?;
    fsconfig_create(context)?;
    let mounted = fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    move_mount(mounted.as_fd(), "", CWD, root, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

fn overlay_by_text(lower: &[PathBuf], home: &Path, root: &Path) -> io::Result<()> {
    let lower: Vec<Vec<u8>> = lower.iter().map(|layer| escaped(layer)).collect();
    let options =
        [&b"lowerdir="[..], &lower.join(&b':'), b",upperdir=", &escaped(&home.join("upper")), b",workdir=", &escaped(&home.join("work"))]
            .concat();
    if options.len() > LONGEST_OPTIONS {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many layers for this kernel; Linux 6.7 or later takes them"));
    }
    let options = std::ffi::CString::new(options)?;
    Ok(mount("overlay", root, "overlay", MountFlags::empty(), Some(options.as_c_str()))?)
}

/// A path in a text of mount options, where some characters have a meaning.
fn escaped(path: &Path) -> Vec<u8> {
    let escape = |byte: &u8| if matches!(byte, b':' | b',' | b'\\') { vec![b'\\', *byte] } else { vec![*byte] };
    path.as_os_str().as_bytes().iter().flat_map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mounts two layers by one of the ways, and looks at what comes out.
    fn try_out(way: impl Fn(&[PathBuf], &Path, &Path) -> io::Result<()>) {
        if !rustix::process::geteuid().is_root() {
            return eprintln!("skipped: only root can mount");
        }
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("odd:name, this");
        let parts = ["upper", "work", "root", "top", "bottom"].map(|part| home.join(part));
        parts.iter().for_each(|part| make_dir(part).unwrap());
        let [upper, _, root, top, bottom] = parts;
        for (layer, file, text) in [(&bottom, "both", "below"), (&top, "both", "above"), (&bottom, "below", "seen")] {
            fs::write(layer.join(file), text).unwrap();
        }
        way(&[top, bottom], &home, &root).unwrap();
        assert!(is_mount(&root).unwrap());
        assert_eq!(["both", "below"].map(|file| fs::read_to_string(root.join(file)).unwrap()), ["above", "seen"]);
        fs::write(root.join("new"), "written").unwrap();
        assert_eq!(fs::read_to_string(upper.join("new")).unwrap(), "written");
        unmount(&root, UnmountFlags::DETACH).unwrap();
        assert!(!is_mount(&root).unwrap());
    }

    #[test]
    fn overlays_are_mounted_the_way_of_new_kernels() {
        try_out(|lower, home, root| match overlay_by_parts(lower, home, root) {
            Err(Errno::INVAL | Errno::NOSYS) => {
                eprintln!("this kernel is too old for it");
                overlay_by_text(lower, home, root)
            }
            outcome => Ok(outcome?),
        });
    }

    #[test]
    fn overlays_are_mounted_the_way_of_old_kernels() {
        try_out(overlay_by_text);
    }
}
