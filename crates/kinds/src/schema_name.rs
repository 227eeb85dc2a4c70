//! The names of schemas, put together while the program is compiled: `io.k8s.api.` `apps` `.` `v1` `.` `StatefulSet`.

/// The parts of the name of a served kind's schema. Of a group's name only the first word is in it.
pub const fn parts<'a>(group: &'a str, version: &'a str, kind: &'a str) -> [&'a str; 6] {
    ["io.k8s.api.", first_word(group), ".", version, ".", kind]
}

const fn first_word(group: &str) -> &str {
    let bytes = group.as_bytes();
    let mut end = 0;
    while end < bytes.len() && bytes[end] != b'.' {
        end += 1;
    }
    if end == 0 { "core" } else { text(bytes.split_at(end).0) }
}

/// How long the name is.
pub const fn length(parts: &[&str]) -> usize {
    let (mut index, mut length) = (0, 0);
    while index < parts.len() {
        length += parts[index].len();
        index += 1;
    }
    length
}

/// The name.
pub const fn joined<const LENGTH: usize>(parts: &[&str]) -> [u8; LENGTH] {
    let mut name = [0; LENGTH];
    let (mut index, mut at) = (0, 0);
    while index < parts.len() {
        let part = parts[index].as_bytes();
        let mut byte = 0;
        while byte < part.len() {
            name[at] = part[byte];
            (at, byte) = (at + 1, byte + 1);
        }
        index += 1;
    }
    name
}

/// The name as text.
///
/// # Panics
/// While the program is compiled, if the bytes are no text.
pub const fn text(name: &[u8]) -> &str {
    match str::from_utf8(name) {
        Ok(text) => text,
        Err(_) => panic!("a schema's name is text"),
    }
}

#[cfg(test)]
mod tests {
    use crate::registry;

    #[test]
    fn schemas_are_named_by_the_first_word_of_the_group() {
        let name = |group, plural| registry::find(group, "v1", plural).unwrap().codec.schema_name;
        assert_eq!(name("", "pods"), "io.k8s.api.core.v1.Pod");
        assert_eq!(name("apps", "statefulsets"), "io.k8s.api.apps.v1.StatefulSet");
        assert_eq!(name("events.k8s.io", "events"), "io.k8s.api.events.v1.Event");
    }
}
