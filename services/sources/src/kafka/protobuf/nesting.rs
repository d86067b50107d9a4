//! How deep a `.proto` text nests its braces. The compiler reads the values of options by recursion without a limit, and a text of
//! the registry must not exhaust the server's stack.

/// Not what stands in comments and texts.
pub fn depth(text: &str) -> usize {
    let mut rest = text.as_bytes();
    let (mut depth, mut deepest) = (0_usize, 0);
    while let Some((&byte, after)) = rest.split_first() {
        rest = match (byte, after) {
            (b'/', [b'/', comment @ ..]) => behind(comment, b"\n"),
            (b'/', [b'*', comment @ ..]) => behind(comment, b"*/"),
            // In the values of options.
            (b'#', comment) => behind(comment, b"\n"),
            (b'"' | b'\'', _) => behind_text(after, byte),
            _ => after,
        };
        match byte {
            b'{' | b'[' | b'<' => depth += 1,
            b'}' | b']' | b'>' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

fn behind<'a>(bytes: &'a [u8], end: &[u8]) -> &'a [u8] {
    let at = bytes.windows(end.len()).position(|window| window == end);
    at.and_then(|at| bytes.get(at + end.len()..)).unwrap_or_default()
}

fn behind_text(mut bytes: &[u8], quote: u8) -> &[u8] {
    loop {
        match bytes {
            [b'\\', _, rest @ ..] => bytes = rest,
            [byte, rest @ ..] if *byte == quote => return rest,
            [_, rest @ ..] => bytes = rest,
            [] => return bytes,
        }
    }
}
