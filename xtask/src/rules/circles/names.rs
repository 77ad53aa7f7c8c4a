//! Which file takes which name from which.

use std::path::PathBuf;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

use super::modules::{Module, Modules, Way};

/// Re-exports of re-exports that are followed, at most.
const DEPTH_MAX: usize = 16;

/// (file, file that it takes from, name), within the crate.
pub(super) fn taken(modules: &Modules) -> Vec<(PathBuf, PathBuf, String)> {
    let mut all = Vec::new();
    for (here, module) in &modules.all {
        let mut ways = Ways::default();
        module.items.iter().for_each(|item| ways.visit_item(item));
        ways.all.extend(module.imports.values().cloned());
        ways.all.extend(module.globs.iter().cloned());
        for way in ways.all {
            if let Some((file, name)) = modules.resolve(here, &way, DEPTH_MAX)
                && *file != module.file
            {
                all.push((module.file.clone(), file.clone(), name));
            }
        }
    }
    all
}

impl Modules {
    /// The file that defines what a way leads to, when it lies in this crate and is no module.
    fn resolve<'a>(
        &'a self,
        here: &Way,
        way: &[String],
        depth: usize,
    ) -> Option<(&'a PathBuf, String)> {
        let depth = depth.checked_sub(1)?;
        let (first, rest) = way.split_first()?;
        match first.as_str() {
            "crate" => self.follow(Way::new(), rest, depth),
            "self" => self.follow(here.clone(), rest, depth),
            "super" => {
                let (_, above) = here.split_last()?;
                // Below a first `super` more of them may stand.
                match rest.first().map(String::as_str) {
                    Some("super") => self.resolve(&above.to_vec(), rest, depth),
                    _ => self.follow(above.to_vec(), rest, depth),
                }
            }
            _ => self.follow(here.clone(), way, depth),
        }
    }

    /// Goes down from a module.
    fn follow<'a>(
        &'a self,
        from: Way,
        way: &[String],
        depth: usize,
    ) -> Option<(&'a PathBuf, String)> {
        let (name, rest) = way.split_first()?;
        let module = self.all.get(&from)?;
        let mut below = from.clone();
        below.push(name.clone());
        if self.all.contains_key(&below) {
            return self.follow(below, rest, depth);
        }
        if module.defines.contains(name) {
            return Some((&module.file, name.clone()));
        }
        if let Some(import) = module.imports.get(name) {
            // `use bytes;` of a crate named as the module here would lead to itself.
            let longer: Way = import.iter().chain(rest).cloned().collect();
            return (longer != way).then(|| self.resolve(&from, &longer, depth)).flatten();
        }
        self.through_globs(&from, module, way, depth)
    }

    fn through_globs<'a>(
        &'a self,
        from: &Way,
        module: &Module,
        way: &[String],
        depth: usize,
    ) -> Option<(&'a PathBuf, String)> {
        let longer =
            module.globs.iter().map(|glob| glob.iter().chain(way).cloned().collect::<Way>());
        longer.filter(|longer| longer != way).find_map(|longer| self.resolve(from, &longer, depth))
    }
}

/// Every way that stands in some code, in macros too.
#[derive(Debug, Default)]
struct Ways {
    all: Vec<Way>,
}

impl<'ast> Visit<'ast> for Ways {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.all.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }

    fn visit_item_use(&mut self, _: &'ast syn::ItemUse) {
        // Inside functions: `use` of an enum's variants; nothing else stands there.
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        self.tokens(call.tokens.clone());
    }
}

impl Ways {
    fn tokens(&mut self, tokens: TokenStream) {
        let mut way = Way::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Punct(mark) if mark.as_char() == ':' && !way.is_empty() => colons += 1,
                TokenTree::Ident(name) if colons == 2 => {
                    way.push(name.to_string());
                    colons = 0;
                }
                other => {
                    self.end(&mut way, &mut colons);
                    match other {
                        TokenTree::Ident(name) => way.push(name.to_string()),
                        TokenTree::Group(group) => self.tokens(group.stream()),
                        TokenTree::Punct(_) | TokenTree::Literal(_) => {}
                    }
                }
            }
        }
        self.end(&mut way, &mut colons);
    }

    fn end(&mut self, way: &mut Way, colons: &mut u8) {
        *colons = 0;
        let whole = std::mem::take(way);
        if !whole.is_empty() {
            self.all.push(whole);
        }
    }
}
