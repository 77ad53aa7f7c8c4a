//! The modules of a crate: where each lies, what it defines, and what it takes under which name.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Context;
use syn::{Attribute, Item, ItemMod, UseTree};

/// A way through modules: `["crate", "boot", "Server"]`.
pub(super) type Way = Vec<String>;

/// One module.
#[derive(Debug, Default)]
pub(super) struct Module {
    pub(super) file: PathBuf,
    /// Names of what stands here, modules aside.
    pub(super) defines: BTreeSet<String>,
    /// Name here -> the way it is taken by; `pub` or not.
    pub(super) imports: BTreeMap<String, Way>,
    /// Ways of `use ...::*`.
    pub(super) globs: Vec<Way>,
    /// The code, without modules below and without what is for tests.
    pub(super) items: Vec<Item>,
}

/// All modules by their way from the crate's root, which is the empty way.
#[derive(Debug, Default)]
pub(super) struct Modules {
    pub(super) all: BTreeMap<Way, Module>,
}

type Text<'a> = &'a dyn Fn(&Path) -> anyhow::Result<String>;
type There<'a> = &'a dyn Fn(&Path) -> bool;

/// Where a module is read.
struct Spot {
    way: Way,
    file: PathBuf,
    /// The folder in which the files of modules below lie.
    below: PathBuf,
}

impl Modules {
    /// Reads a crate from its first file on.
    pub(super) fn read(start: &Path, text: Text<'_>) -> anyhow::Result<Self> {
        Self::read_with(start, text, &Path::exists)
    }

    pub(super) fn read_with(
        start: &Path,
        text: Text<'_>,
        there: There<'_>,
    ) -> anyhow::Result<Self> {
        let mut modules = Self::default();
        let below = start.parent().unwrap_or(Path::new("")).to_path_buf();
        let spot = Spot { way: Way::new(), file: start.to_path_buf(), below };
        let code = parsed(start, text)?;
        modules.add(spot, code, text, there)?;
        Ok(modules)
    }

    fn add(
        &mut self,
        spot: Spot,
        items: Vec<Item>,
        text: Text<'_>,
        there: There<'_>,
    ) -> anyhow::Result<()> {
        let mut module = Module { file: spot.file.clone(), ..Module::default() };
        for item in items {
            if attributes(&item).iter().any(is_for_tests) {
                continue;
            }
            match item {
                Item::Mod(below) => self.add_below(&spot, below, text, there)?,
                Item::Use(taken) => module.take(&taken.tree, &mut Way::new()),
                other => {
                    module.defines.extend(name_of(&other));
                    module.items.push(other);
                }
            }
        }
        self.all.insert(spot.way, module);
        Ok(())
    }

    fn add_below(
        &mut self,
        spot: &Spot,
        item: ItemMod,
        text: Text<'_>,
        there: There<'_>,
    ) -> anyhow::Result<()> {
        let name = item.ident.to_string();
        let mut way = spot.way.clone();
        way.push(name.clone());
        let folder = spot.below.join(&name);
        if let Some((_, items)) = item.content {
            return self.add(
                Spot { way, file: spot.file.clone(), below: folder },
                items,
                text,
                there,
            );
        }
        let (flat, deep) = (spot.below.join(format!("{name}.rs")), folder.join("mod.rs"));
        let file = match path_of(&item.attrs) {
            Some(path) => spot.below.join(path),
            None if there(&flat) => flat,
            None => deep,
        };
        let code = parsed(&file, text)?;
        self.add(Spot { way, file, below: folder }, code, text, there)
    }
}

impl Module {
    fn take(&mut self, tree: &UseTree, before: &mut Way) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.take(&path.tree, before);
                before.pop();
            }
            UseTree::Name(name) if name.ident == "self" => {
                if let Some(last) = before.last() {
                    self.imports.insert(last.clone(), before.clone());
                }
            }
            UseTree::Name(name) => self.import(before, &name.ident, name.ident.to_string()),
            UseTree::Rename(renamed) => {
                self.import(before, &renamed.ident, renamed.rename.to_string())
            }
            UseTree::Glob(_) => self.globs.push(before.clone()),
            UseTree::Group(group) => group.items.iter().for_each(|one| self.take(one, before)),
        }
    }

    fn import(&mut self, before: &Way, name: &syn::Ident, here: String) {
        let mut way = before.clone();
        way.push(name.to_string());
        // Traits taken for their methods alone (`as _`) are many under one name.
        let here = if here == "_" { format!("_ {}", way.join("::")) } else { here };
        self.imports.insert(here, way);
    }
}

fn parsed(file: &Path, text: Text<'_>) -> anyhow::Result<Vec<Item>> {
    let code =
        syn::parse_file(&text(file)?).with_context(|| format!("parse {}", file.display()))?;
    Ok(code.items)
}

/// `#[cfg(test)]`, and `#[cfg(any(test, ...))]`.
fn is_for_tests(attribute: &Attribute) -> bool {
    let tokens = match &attribute.meta {
        syn::Meta::List(list) if list.path.is_ident("cfg") => list.tokens.to_string(),
        _ => return false,
    };
    tokens.split(|c: char| !c.is_alphanumeric()).any(|word| word == "test")
        && !tokens.contains("not")
}

fn path_of(attributes: &[Attribute]) -> Option<String> {
    attributes.iter().find_map(|attribute| match &attribute.meta {
        syn::Meta::NameValue(pair) if pair.path.is_ident("path") => match &pair.value {
            syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    })
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(one) => &one.attrs,
        Item::Enum(one) => &one.attrs,
        Item::Fn(one) => &one.attrs,
        Item::Impl(one) => &one.attrs,
        Item::Macro(one) => &one.attrs,
        Item::Mod(one) => &one.attrs,
        Item::Static(one) => &one.attrs,
        Item::Struct(one) => &one.attrs,
        Item::Trait(one) => &one.attrs,
        Item::Type(one) => &one.attrs,
        Item::Use(one) => &one.attrs,
        _ => &[],
    }
}

fn name_of(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(one) => &one.ident,
        Item::Enum(one) => &one.ident,
        Item::Fn(one) => &one.sig.ident,
        Item::Macro(one) => one.ident.as_ref()?,
        Item::Static(one) => &one.ident,
        Item::Struct(one) => &one.ident,
        Item::Trait(one) => &one.ident,
        Item::Type(one) => &one.ident,
        _ => return None,
    };
    Some(name.to_string())
}
