//! HTML that is well-formed by construction: tags close where their closure ends, and no text or
//! attribute gets in unescaped.

use std::fmt::{self, Display, Write};

/// An attribute: its name and its value.
pub(super) type Attribute<'a> = (&'static str, &'a dyn Display);

/// A document, or a part of one, that is being written.
#[derive(Debug, Default)]
pub(super) struct Html {
    text: String,
}

impl Html {
    /// What was written.
    pub fn finish(self) -> String {
        self.text
    }

    /// `<tag attributes> inside </tag>`.
    pub fn element(
        &mut self,
        tag: &'static str,
        attributes: &[Attribute<'_>],
        inside: impl FnOnce(&mut Self),
    ) {
        self.void(tag, attributes);
        inside(self);
        self.raw("</");
        self.raw(tag);
        self.raw(if is_block(tag) { ">\n" } else { ">" });
    }

    /// An element that holds only text.
    pub fn leaf(&mut self, tag: &'static str, attributes: &[Attribute<'_>], text: impl Display) {
        self.element(tag, attributes, |h| h.text(text));
    }

    /// A tag without an end, such as `img`.
    pub fn void(&mut self, tag: &'static str, attributes: &[Attribute<'_>]) {
        self.raw("<");
        self.raw(tag);
        for (name, value) in attributes {
            self.raw(" ");
            self.raw(name);
            self.raw("=\"");
            self.text(value);
            self.raw("\"");
        }
        self.raw(">");
    }

    /// Text.
    pub fn text(&mut self, text: impl Display) {
        // Writing to a string cannot fail.
        let _ = write!(Escaping(&mut self.text), "{text}");
    }

    /// A part of the document that this program itself wrote.
    pub fn raw(&mut self, part: &str) {
        self.text.push_str(part);
    }
}

/// Whether a line may end after the tag without a space being shown.
fn is_block(tag: &str) -> bool {
    !matches!(
        tag,
        "a" | "b" | "code" | "span" | "strong" | "text" | "tspan" | "title"
    )
}

/// Escapes what is written through it, for text and for attributes in double quotes. Control
/// characters, which HTML does not allow, become U+FFFD.
struct Escaping<'a>(&'a mut String);

impl Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                '\n' | '\t' => self.0.push(c),
                c if c.is_control() => self.0.push('\u{fffd}'),
                c => self.0.push(c),
            }
        }
        Ok(())
    }
}

/// Base 64 (RFC 4648, section 4), with padding.
pub(super) struct Base64<'a>(pub &'a [u8]);

impl Display for Base64<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        for three in self.0.chunks(3) {
            let byte = |i: usize| u32::from(three.get(i).copied().unwrap_or(0));
            let bits = (byte(0) << 16) | (byte(1) << 8) | byte(2);
            for place in 0..4 {
                let digit = DIGITS[(bits >> (18 - 6 * place)) as usize & 63];
                let used = place <= three.len();
                f.write_char(if used { char::from(digit) } else { '=' })?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_gets_in_unescaped() {
        let mut h = Html::default();
        let nasty = "<b>\"x\" & 'y'\u{0}</b>";
        h.element("p", &[("title", &nasty)], |h| h.text(nasty));
        let escaped = "&lt;b&gt;&quot;x&quot; &amp; &#39;y&#39;\u{fffd}&lt;/b&gt;";
        assert_eq!(
            h.finish(),
            format!("<p title=\"{escaped}\">{escaped}</p>\n")
        );
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (bytes, expected) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(Base64(bytes.as_bytes()).to_string(), expected);
        }
        assert_eq!(Base64(&[0xfb, 0xff, 0xfe]).to_string(), "+//+");
    }
}
