//! The source as words: which paths it names, and what it writes to the streams of the process.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const MACROS: &[&str] = &["println", "eprintln", "print", "eprint", "dbg"];
const STREAMS: &[&str] = &["stdout", "stderr"];

/// `path` is `of`, or lies below it.
pub(crate) fn below(path: &str, of: &str) -> bool {
    path.strip_prefix(of).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// A source file that is part of the program.
pub(crate) struct Source {
    /// Below `src`.
    pub(crate) name: String,
    tokens: Vec<Token>,
    modules: BTreeSet<String>,
}

/// A path in the source, spelled out from the crate's root or another crate's.
#[derive(Debug)]
pub(crate) struct Used {
    pub(crate) at: String,
    pub(crate) path: String,
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(usize, String),
    Mark(char),
}

/// All files of the program but those that are tests.
pub(crate) fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    let mut folders: Vec<PathBuf> = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a source folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&root).expect("below src").to_string_lossy();
                found.insert(name.into_owned(), fs::read_to_string(&path).expect("source text"));
            }
        }
    }
    let modules: Vec<String> = found
        .keys()
        .filter_map(|name| name.split('/').next())
        .map(|name| name.trim_end_matches(".rs").to_owned())
        .collect();
    let is_test = |name: &str| {
        name.ends_with("/tests.rs")
            || name.contains("/tests/")
            || name == "report/samples.rs"
            || name.ends_with("/strategy.rs")
    };
    assert!(found.len() > 50, "only {} source files were found", found.len());
    found
        .iter()
        .filter(|(name, _)| !is_test(name))
        .map(|(name, text)| Source::new(name, text, modules.iter().map(String::as_str)))
        .collect()
}

impl Source {
    pub(crate) fn new<'a>(
        name: &str,
        text: &str,
        modules: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let modules = modules.into_iter().map(str::to_owned).collect();
        Self { name: name.to_owned(), tokens: tokens(text), modules }
    }

    /// The top module that the file belongs to.
    pub(crate) fn layer(&self) -> &str {
        self.name.split('/').next().unwrap_or_default().trim_end_matches(".rs")
    }

    pub(crate) fn crate_has(&self, module: &str) -> bool {
        self.modules.contains(module)
    }

    /// Segments of the module that the file is.
    fn module(&self) -> Vec<String> {
        let path = self.name.trim_end_matches(".rs").trim_end_matches("/mod");
        let root = ["main", "lib"].contains(&path);
        if root { Vec::new() } else { path.split('/').map(str::to_owned).collect() }
    }

    fn at(&self, line: usize) -> String {
        format!("src/{}:{line}", self.name)
    }

    /// Everything that writes to a stream of the process, or takes hold of one.
    pub(crate) fn writes(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for (index, token) in self.tokens.iter().enumerate() {
            let Token::Word(line, word) = token else { continue };
            let is_macro = MACROS.contains(&word.as_str())
                && self.tokens.get(index + 1) == Some(&Token::Mark('!'));
            let of_io = index > 2
                && self.separated(index - 2)
                && matches!(&self.tokens[index - 3], Token::Word(_, word) if word == "io");
            if is_macro || (of_io && STREAMS.contains(&word.as_str())) {
                found.push((self.at(*line), word.clone()));
            }
        }
        found
    }

    /// Every path of two segments or more, spelled out from its root.
    pub(crate) fn paths(&self) -> Vec<Used> {
        let mut found = Vec::new();
        let mut inside: Vec<(String, usize)> = Vec::new();
        let (mut depth, mut index) = (0, 0);
        while index < self.tokens.len() {
            match &self.tokens[index] {
                Token::Mark('{') => depth += 1,
                Token::Mark('}') => {
                    depth -= 1;
                    inside.retain(|(_, opened)| *opened <= depth);
                }
                Token::Word(_, word) if word == "mod" => {
                    if let (Some(Token::Word(_, name)), Some(Token::Mark('{'))) =
                        (self.tokens.get(index + 1), self.tokens.get(index + 2))
                    {
                        inside.push((name.clone(), depth + 1));
                        index += 1;
                    }
                }
                Token::Word(line, _) if self.is_path(index) => {
                    let mut module = self.module();
                    module.extend(inside.iter().map(|(name, _)| name.clone()));
                    let start = found.len();
                    index = self.tree(index, String::new(), &mut found);
                    for used in &mut found[start..] {
                        used.path = absolute(&used.path, &module);
                        used.at = self.at(*line);
                    }
                    continue;
                }
                _ => {}
            }
            index += 1;
        }
        // `harness::` is the library as the program sees it.
        for used in &mut found {
            if let Some(rest) = used.path.strip_prefix("harness::") {
                used.path = format!("crate::{rest}");
            }
        }
        found
    }

    fn separated(&self, index: usize) -> bool {
        self.tokens.get(index) == Some(&Token::Mark(':'))
            && self.tokens.get(index + 1) == Some(&Token::Mark(':'))
    }

    /// Whether a path of two segments or more begins here.
    fn is_path(&self, index: usize) -> bool {
        let begins = index < 2 || !self.separated(index - 2);
        begins && self.separated(index + 1)
    }

    /// Reads a path or a tree of them; gives back where it ends.
    fn tree(&self, index: usize, above: String, found: &mut Vec<Used>) -> usize {
        match self.tokens.get(index) {
            Some(Token::Word(_, word)) => {
                let path = match (above.as_str(), word.as_str()) {
                    ("", _) => word.clone(),
                    (_, "self") => above,
                    _ => format!("{above}::{word}"),
                };
                if self.separated(index + 1) {
                    return self.tree(index + 3, path, found);
                }
                found.push(Used { at: String::new(), path });
                let renamed = self.tokens.get(index + 1);
                let renamed = matches!(renamed, Some(Token::Word(_, word)) if word == "as");
                index + if renamed { 3 } else { 1 }
            }
            Some(Token::Mark('{')) => {
                let mut index = index + 1;
                while let Some(token) = self.tokens.get(index) {
                    match token {
                        Token::Mark('}') => return index + 1,
                        Token::Mark(',') => index += 1,
                        _ => index = self.tree(index, above.clone(), found),
                    }
                }
                index
            }
            // `a::*`, or the generic arguments of `a::<B>`.
            _ => {
                found.push(Used { at: String::new(), path: above });
                index + 1
            }
        }
    }
}

/// A path from the crate's root, given the module it stands in.
fn absolute(path: &str, module: &[String]) -> String {
    let mut rest = path;
    let mut module = module.to_vec();
    let relative = ["super", "self"].iter().any(|word| path == *word || below(path, word));
    if !relative {
        return path.to_owned();
    }
    loop {
        let (head, tail) = rest.split_once("::").unwrap_or((rest, ""));
        match head {
            "super" => drop(module.pop()),
            "self" => {}
            _ => break,
        }
        rest = tail;
    }
    let mut segments = vec!["crate".to_owned()];
    segments.extend(module);
    segments.extend((!rest.is_empty()).then(|| rest.to_owned()));
    segments.join("::")
}

/// The code without comments, texts and test modules, as words and marks.
fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let (mut index, mut line) = (0, 1);
    while let Some(&c) = chars.get(index) {
        let start = index;
        let next = chars.get(index + 1).copied();
        match (c, next) {
            ('/', Some('/')) => index = until(&chars, index, |at| chars[at] == '\n'),
            ('/', Some('*')) => index = after_comment(&chars, index),
            ('"', _) => index = after_text(&chars, index + 1),
            ('r', Some('"' | '#')) if raw_text(&chars, index).is_some() => {
                index = raw_text(&chars, index).unwrap_or(index + 1);
            }
            // A character; what is no character is the name of a lifetime.
            ('\'', Some('\\')) => {
                index = until(&chars, index + 3, |at| chars[at] == '\'') + 1;
            }
            ('\'', Some(_)) if chars.get(index + 2) == Some(&'\'') => index += 3,
            _ if c.is_alphanumeric() || c == '_' => {
                index =
                    until(&chars, index, |at| !(chars[at].is_alphanumeric() || chars[at] == '_'));
                tokens.push(Token::Word(line, chars[start..index].iter().collect()));
            }
            _ => {
                if !c.is_whitespace() {
                    tokens.push(Token::Mark(c));
                }
                index += 1;
            }
        }
        line += chars[start..index.min(chars.len())].iter().filter(|c| **c == '\n').count();
    }
    without_tests(tokens)
}

fn until(chars: &[char], from: usize, ends: impl Fn(usize) -> bool) -> usize {
    (from..chars.len()).find(|at| ends(*at)).unwrap_or(chars.len())
}

fn after_comment(chars: &[char], from: usize) -> usize {
    let (mut depth, mut index) = (0, from);
    while index < chars.len() {
        match (chars[index], chars.get(index + 1)) {
            ('/', Some('*')) => (depth, index) = (depth + 1, index + 2),
            ('*', Some('/')) => (depth, index) = (depth - 1, index + 2),
            _ => index += 1,
        }
        if depth == 0 {
            break;
        }
    }
    index
}

fn after_text(chars: &[char], from: usize) -> usize {
    let mut index = from;
    while let Some(c) = chars.get(index) {
        match c {
            '\\' => index += 2,
            '"' => return index + 1,
            _ => index += 1,
        }
    }
    index
}

/// Where the raw text ends that begins here, if one does.
fn raw_text(chars: &[char], from: usize) -> Option<usize> {
    let quote = until(chars, from + 1, |at| chars[at] != '#');
    let hashes = quote - from - 1;
    (chars.get(quote) == Some(&'"')).then(|| {
        let ends = |at: usize| {
            chars[at] == '"' && (at + 1..=at + hashes).all(|at| chars.get(at) == Some(&'#'))
        };
        until(chars, quote + 1, ends) + 1 + hashes
    })
}

/// Leaves out every `#[cfg(test)] mod … { … }`.
fn without_tests(tokens: Vec<Token>) -> Vec<Token> {
    let mut kept: Vec<Token> = Vec::new();
    let mut index = 0;
    while index < tokens.len() {
        let is =
            |at: usize, word: &str| matches!(tokens.get(at), Some(Token::Word(_, w)) if w == word);
        let is_module = is(index, "mod")
            && is(index + 1, "tests")
            && tokens.get(index + 2) == Some(&Token::Mark('{'));
        if !is_module {
            kept.push(tokens[index].clone());
            index += 1;
            continue;
        }
        let mut depth = 0;
        index += 2;
        while let Some(token) = tokens.get(index) {
            depth += match token {
                Token::Mark('{') => 1,
                Token::Mark('}') => -1,
                _ => 0,
            };
            index += 1;
            if depth == 0 {
                break;
            }
        }
    }
    kept
}
