//! Rust source as the rules see it: tokens with their lines; no comments, strings or tests.
//!
//! A scanner, not a parser: it knows just enough of the lexical grammar never to take text in
//! a string or a comment for code. It accepts any input and ends after one pass.

/// One word or sign.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Token {
    /// A word, `::`, `->`, `=>`, a single sign, or `""` for any string or character.
    pub(crate) text: String,
    /// Its line, from 1.
    pub(crate) line: usize,
}

/// A scanned file.
pub(crate) struct Source {
    /// Everything but comments, the content of strings, and items under `#[cfg(test)]`.
    pub(crate) tokens: Vec<Token>,
    /// Lines that do not belong to an item under `#[cfg(test)]`.
    pub(crate) lines_without_tests: usize,
    /// Modules declared as `#[cfg(test)] mod name;`: their files are tests.
    pub(crate) test_modules: Vec<String>,
}

impl Source {
    pub(crate) fn scan(text: &str) -> Self {
        let mut tokens = Lexer::of(text).tokens();
        let (test_modules, test_lines) = remove_tests(&mut tokens);
        let lines_without_tests = text.lines().count().saturating_sub(test_lines);
        Self { tokens, lines_without_tests, test_modules }
    }
}

/// Cuts out items under `#[cfg(test)]`; tells which modules they declare and their lines.
fn remove_tests(tokens: &mut Vec<Token>) -> (Vec<String>, usize) {
    let mut kept = Vec::with_capacity(tokens.len());
    let mut modules = Vec::new();
    let mut lines = 0;
    let mut at = 0;
    while at < tokens.len() {
        if !opens_test(&tokens[at..]) {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        let mut item = at;
        while is(tokens, item, "#") {
            item = after_brackets(tokens, item + 1);
        }
        let end = after_item(tokens, item);
        let words: Vec<_> = tokens[item..end].iter().map(|token| token.text.as_str()).collect();
        if let ["mod", name, ";"] | [.., "mod", name, ";"] = words[..] {
            modules.push(name.to_owned());
        }
        lines += tokens[end - 1].line - tokens[at].line + 1;
        at = end;
    }
    *tokens = kept;
    (modules, lines)
}

/// Whether an attribute starts here that admits the next item only to tests.
fn opens_test(tokens: &[Token]) -> bool {
    let starts = |words: &[&str]| {
        tokens.len() >= words.len() && words.iter().zip(tokens).all(|(word, t)| t.text == *word)
    };
    starts(&["#", "[", "cfg", "(", "test", ")", "]"])
        || starts(&["#", "[", "cfg", "(", "all", "(", "test"])
}

/// Behind the group of brackets that opens at `at`.
fn after_brackets(tokens: &[Token], at: usize) -> usize {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate().skip(at) {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return index + 1;
        }
    }
    tokens.len()
}

/// Behind the item that starts at `at`: past its `;`, or past its braces.
fn after_item(tokens: &[Token], mut at: usize) -> usize {
    // `use a::{b};` and `const A: T = T { .. };` end at the semicolon, not at the brace.
    let ends_at_semicolon = (at..tokens.len())
        .find(|&at| ITEMS.contains(&tokens[at].text.as_str()) && !is(tokens, at + 1, "fn"))
        .is_some_and(|at| ["use", "const", "static"].contains(&tokens[at].text.as_str()));
    while at < tokens.len() {
        match tokens[at].text.as_str() {
            ";" => return at + 1,
            "{" if !ends_at_semicolon => return after_brackets(tokens, at),
            "(" | "[" | "{" => at = after_brackets(tokens, at),
            // The end of what surrounds the item: it was a field or a variant.
            ")" | "]" | "}" => return at,
            _ => at += 1,
        }
    }
    tokens.len()
}

fn is(tokens: &[Token], at: usize, text: &str) -> bool {
    tokens.get(at).is_some_and(|token| token.text == text)
}

struct Lexer {
    text: Vec<char>,
    at: usize,
    line: usize,
    tokens: Vec<Token>,
}

impl Lexer {
    fn of(text: &str) -> Self {
        Self { text: text.chars().collect(), at: 0, line: 1, tokens: Vec::new() }
    }

    fn tokens(mut self) -> Vec<Token> {
        while let Some(sign) = self.peek(0) {
            match (sign, self.peek(1)) {
                ('/', Some('/')) => self.skip_while(|sign| sign != '\n'),
                ('/', Some('*')) => self.block_comment(),
                ('"', _) => self.string(),
                ('\'', _) => self.quote(),
                (':', Some(':')) => self.push(2, "::".into()),
                ('-' | '=', Some('>')) => self.push(2, format!("{sign}>")),
                _ if sign.is_whitespace() => self.advance(),
                _ if is_word(sign) => self.word(),
                _ => self.push(1, sign.into()),
            }
        }
        self.tokens
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.text.get(self.at + ahead).copied()
    }

    fn advance(&mut self) {
        if self.peek(0) == Some('\n') {
            self.line += 1;
        }
        self.at += 1;
    }

    fn skip_while(&mut self, wanted: impl Fn(char) -> bool) {
        while self.peek(0).is_some_and(&wanted) {
            self.advance();
        }
    }

    fn push(&mut self, signs: usize, text: String) {
        self.tokens.push(Token { text, line: self.line });
        self.at += signs;
    }

    /// Block comments nest.
    fn block_comment(&mut self) {
        let mut depth = 0_usize;
        while let Some(sign) = self.peek(0) {
            match (sign, self.peek(1)) {
                ('/', Some('*')) => {
                    depth += 1;
                    self.at += 2;
                }
                ('*', Some('/')) => {
                    depth -= 1;
                    self.at += 2;
                }
                _ => self.advance(),
            }
            if depth == 0 {
                return;
            }
        }
    }

    /// A string with escapes, from its opening quote.
    fn string(&mut self) {
        self.push(1, "\"\"".into());
        while let Some(sign) = self.peek(0) {
            self.advance();
            match sign {
                '"' => return,
                '\\' => self.advance(),
                _ => {}
            }
        }
    }

    /// A raw string, from the first `#` or quote behind its prefix.
    fn raw_string(&mut self, hashes: usize) {
        self.push(hashes + 1, "\"\"".into());
        while let Some(sign) = self.peek(0) {
            let closes = sign == '"' && (1..=hashes).all(|ahead| self.peek(ahead) == Some('#'));
            self.advance();
            if closes {
                self.at += hashes;
                return;
            }
        }
    }

    /// A character, or the name of a lifetime, which says nothing about modules.
    fn quote(&mut self) {
        let escaped = self.peek(1) == Some('\\');
        if !escaped && self.peek(2) != Some('\'') {
            self.at += 1;
            return self.skip_while(is_word);
        }
        self.push(if escaped { 3 } else { 2 }, "\"\"".into());
        self.skip_while(|sign| sign != '\'');
        self.at += 1;
    }

    fn word(&mut self) {
        let start = self.at;
        while self.peek(0).is_some_and(is_word) {
            self.at += 1;
        }
        let word: String = self.text[start..self.at].iter().collect();
        if ["r", "br", "cr"].contains(&word.as_str()) {
            let hashes = (0..).take_while(|&ahead| self.peek(ahead) == Some('#')).count();
            match self.peek(hashes) {
                Some('"') => return self.raw_string(hashes),
                // A raw identifier: `r#type` is the word `type`.
                Some(sign) if hashes == 1 && is_word(sign) => {
                    self.at += 1;
                    return self.word();
                }
                _ => {}
            }
        }
        let prefixes_string = ["b", "c"].contains(&word.as_str()) && self.peek(0) == Some('"');
        if !prefixes_string {
            self.push(0, word);
        }
    }
}

fn is_word(sign: char) -> bool {
    sign.is_alphanumeric() || sign == '_'
}

/// The words that say what kind of item this is.
const ITEMS: &[&str] =
    &["use", "const", "static", "fn", "mod", "struct", "enum", "impl", "trait", "type"];

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> String {
        let source = Source::scan(text);
        source.tokens.iter().map(|token| token.text.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn comments_and_strings_are_no_code() {
        assert_eq!(words("a // use x\nb /* c /* d */ e */ f"), "a b f");
        assert_eq!(
            words(r#"a("use x \" y", 'z', '\'', b"q", b'"', c)"#),
            "a ( \"\" , \"\" , \"\" , \"\" , b \"\" , c )"
        );
        assert_eq!(words("r#\"unsafe \" still\"# end r\"x\\\" r#type"), "\"\" end \"\" type");
        assert_eq!(
            words("fn f<'a>(x: &'static str) -> char { '\\u{1F600}' }"),
            "fn f < > ( x : & str ) -> char { \"\" }"
        );
    }

    #[test]
    fn lines_are_counted_through_comments_and_strings() {
        let source = Source::scan("/* 1\n2 */ \"3\n\\\n4\"\nr#\"\n\"#\nlast");
        let last = source.tokens.last().expect("there is one");
        assert_eq!((last.text.as_str(), last.line), ("last", 7));
    }

    #[test]
    fn items_for_tests_are_cut_out_and_counted() {
        let source = Source::scan(
            "a;\n#[cfg(test)]\nuse x::{y};\nb;\n\
             #[cfg(all(test, unix))]\n#[path = \"p\"]\npub mod t;\nc;\n\
             #[cfg(test)]\nmod tests {\n fn f() { g(); }\n}\nd;\n",
        );
        let words: Vec<_> = source.tokens.iter().map(|token| token.text.as_str()).collect();
        assert_eq!(words, ["a", ";", "b", ";", "c", ";", "d", ";"]);
        assert_eq!(source.test_modules, ["t"]);
        assert_eq!(source.lines_without_tests, 4);
    }

    #[test]
    fn other_conditions_stay() {
        assert_eq!(words("#[cfg(unix)] x;"), "# [ cfg ( unix ) ] x ;");
        assert_eq!(
            words("#[cfg(any(test, feature = \"a\"))] x;"),
            "# [ cfg ( any ( test , feature = \"\" ) ) ] x ;"
        );
        assert_eq!(words("struct A { #[cfg(test)] x: u8 } b"), "struct A { } b");
        assert_eq!(words("#[cfg(test)] pub const fn f() {} b"), "b");
        assert_eq!(words("#[cfg(test)] const A: B = B { c: 1 }; b"), "b");
    }

    #[test]
    fn unfinished_text_ends_the_scan_without_harm() {
        for text in
            ["\"", "r#\"", "/*", "'", "'\\", "b'", "#[cfg(test)]", "#[cfg(test)] mod", "r#", "\\"]
        {
            let source = Source::scan(text);
            assert!(source.lines_without_tests <= 1, "{text}");
        }
    }
}
