//! The paths that a file names, as it wrote them: `use` trees and paths in expressions.
//!
//! Knows nothing of what they stand for; `graph` finds that out.

use super::{Name, source::Token};

/// One path, as written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Mention {
    /// Its segments; the last is `*` for a glob.
    pub(crate) path: Name,
    /// The name it gets in this scope, if it is imported.
    pub(crate) alias: Option<String>,
    /// The modules written out around it within the file.
    pub(crate) inside: Name,
    /// Its line, from 1.
    pub(crate) line: usize,
}

/// Every path of a file that has more than one segment, and every import.
pub(crate) fn mentions(tokens: &[Token]) -> Vec<Mention> {
    let mut reader = Reader { tokens, at: 0, inside: Vec::new(), found: Vec::new() };
    reader.read();
    reader.found
}

struct Reader<'a> {
    tokens: &'a [Token],
    at: usize,
    /// Modules written out around the present place, each with the depth of its braces.
    inside: Vec<(String, usize)>,
    found: Vec<Mention>,
}

impl Reader<'_> {
    fn read(&mut self) {
        let mut depth = 0_usize;
        while self.at < self.tokens.len() {
            match self.text(0) {
                "{" => depth += 1,
                "}" => {
                    self.inside.retain(|(_, opened)| *opened < depth);
                    depth = depth.saturating_sub(1);
                }
                "mod" if self.text(2) == "{" => {
                    self.inside.push((self.text(1).to_owned(), depth + 1));
                }
                // `impl Trait + use<'a>` captures, it does not import.
                "use" if self.text(1) != "<" => {
                    self.at += 1;
                    self.tree(&[]);
                    continue;
                }
                word if is_name(word) && self.text(1) == "::" && self.starts_path() => {
                    self.path();
                    continue;
                }
                _ => {}
            }
            self.at += 1;
        }
    }

    fn text(&self, ahead: usize) -> &str {
        self.tokens.get(self.at + ahead).map_or("", |token| token.text.as_str())
    }

    fn before(&self, back: usize) -> &str {
        let at = self.at.checked_sub(back);
        at.and_then(|at| self.tokens.get(at)).map_or("", |token| token.text.as_str())
    }

    /// A segment behind `::` continues a path, unless that `::` stands at a path's very start.
    fn starts_path(&self) -> bool {
        self.before(1) != "::" || !(is_name(self.before(2)) || self.before(2) == ">")
    }

    fn path(&mut self) {
        let start = self.at;
        let mut path = vec![self.text(0).to_owned()];
        self.at += 1;
        while self.text(0) == "::" && is_name(self.text(1)) {
            path.push(self.text(1).to_owned());
            self.at += 2;
        }
        if path.len() > 1 {
            self.push(path, None, start);
        }
    }

    /// One branch of a `use` tree, up to but without the `,`, `}` or `;` behind it.
    fn tree(&mut self, prefix: &[String]) {
        let start = self.at;
        let mut path = prefix.to_vec();
        if self.text(0) == "::" {
            self.at += 1;
        }
        while is_name(self.text(0)) {
            path.push(self.text(0).to_owned());
            self.at += 1;
            if self.text(0) != "::" {
                return self.leaf(path, start);
            }
            self.at += 1;
        }
        match self.text(0) {
            "*" => {
                path.push("*".into());
                self.at += 1;
                self.push(path, None, start);
            }
            "{" => {
                self.at += 1;
                while !["}", ";", ""].contains(&self.text(0)) {
                    let before = self.at;
                    self.tree(&path);
                    // A comma, or something that no `use` tree holds.
                    if self.text(0) == "," || self.at == before {
                        self.at += 1;
                    }
                }
                if self.text(0) == "}" {
                    self.at += 1;
                }
            }
            _ => {}
        }
    }

    fn leaf(&mut self, mut path: Name, start: usize) {
        if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
            path.pop();
        }
        let mut alias = path.last().cloned();
        if self.text(0) == "as" {
            alias = Some(self.text(1).to_owned());
            self.at += 2;
        }
        self.push(path, alias, start);
    }

    fn push(&mut self, path: Name, alias: Option<String>, start: usize) {
        let inside = self.inside.iter().map(|(name, _)| name.clone()).collect();
        self.found.push(Mention { path, alias, inside, line: self.tokens[start].line });
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|sign: char| sign.is_alphabetic() || sign == '_') && text != "as"
}

#[cfg(test)]
mod tests {
    use super::{super::source::Source, *};

    fn found(text: &str) -> Vec<String> {
        let shown = |mention: Mention| {
            let path = mention.path.join("::");
            let alias = mention.alias.map(|alias| format!(" as {alias}")).unwrap_or_default();
            let inside = mention.inside.iter().map(|name| format!("{name}/")).collect::<String>();
            format!("{inside}{path}{alias}:{}", mention.line)
        };
        mentions(&Source::scan(text).tokens).into_iter().map(shown).collect()
    }

    #[test]
    fn use_trees_are_spread_out() {
        assert_eq!(
            found("use a::{b, c::{self, d as e},\n f::*, };\nuse ::g;\npub(crate) use super::h;"),
            [
                "a::b as b:1",
                "a::c as c:1",
                "a::c::d as e:1",
                "a::f::*:2",
                "g as g:3",
                "super::h as h:4"
            ]
        );
    }

    #[test]
    fn paths_in_code_are_found_once_and_whole() {
        assert_eq!(
            found(
                "fn f(x: crate::a::B<self::C>) -> ::d::E {\n\
                 x.y(); Vec::<u8>::new(); <T as g::H>::i() }"
            ),
            ["crate::a::B:1", "self::C:1", "d::E:1", "g::H:2"]
        );
        assert_eq!(
            found("fn f() -> impl T + use<'_> { super::super::a() }"),
            ["super::super::a:1"]
        );
    }

    #[test]
    fn modules_written_out_are_remembered() {
        assert_eq!(
            found("mod a { fn f() { super::b() } mod c { use d::e; } } use g::h;"),
            ["a/super::b:1", "a/c/d::e as e:1", "g::h as h:1"]
        );
    }

    #[test]
    fn malformed_trees_end() {
        for text in [
            "use",
            "use a::",
            "use a::{",
            "use {{{",
            "use a::{b",
            "use a as",
            "use {;}",
            "use a::{=}",
        ] {
            assert!(found(text).len() <= 1, "{text}");
        }
    }
}
