//! Functions that group arguments in a tuple, so that a lint counts fewer: at the call nobody sees which is which.

use std::path::{Path, PathBuf};

use anyhow::Context;
use syn::visit::{self, Visit};
use syn::{FnArg, Pat, Signature, Type};

use super::sources;

/// Functions with a tuple among several arguments, when there are more than are still left. A function whose only
/// argument is a tuple is none: it is handed to an iterator over pairs.
pub(super) fn complaints(
    root: &Path,
    manifests: &[PathBuf],
    left: usize,
) -> anyhow::Result<Vec<String>> {
    let mut all = Vec::new();
    for manifest in manifests {
        let folder = manifest.parent().context("a manifest lies in a folder")?;
        for (path, text) in sources::below(folder)? {
            let shown = path.strip_prefix(root).unwrap_or(&path).display().to_string();
            let found = grouping(&text).with_context(|| format!("parse {shown}"))?;
            all.extend(found.into_iter().map(|function| {
                format!("{shown}: `{function}` groups arguments in a tuple: take them apart, or give them a struct")
            }));
        }
    }
    let found = all.len();
    match found > left {
        true => all.push(format!(
            "{found} functions group arguments, and layering.toml says tuple_arguments_left = {left}"
        )),
        false => all.clear(),
    }
    Ok(all)
}

/// Names of the functions of a file that group arguments.
fn grouping(text: &str) -> syn::Result<Vec<String>> {
    let mut found = Found::default();
    found.visit_file(&syn::parse_file(text)?);
    Ok(found.0)
}

#[derive(Default)]
struct Found(Vec<String>);

impl<'ast> Visit<'ast> for Found {
    fn visit_signature(&mut self, signature: &'ast Signature) {
        let groups = |input: &FnArg| match input {
            FnArg::Typed(typed) => matches!(*typed.pat, Pat::Tuple(_)) && is_tuple(&typed.ty),
            FnArg::Receiver(_) => false,
        };
        if signature.inputs.len() > 1 && signature.inputs.iter().any(groups) {
            self.0.push(signature.ident.to_string());
        }
        visit::visit_signature(self, signature);
    }
}

fn is_tuple(kind: &Type) -> bool {
    match kind {
        Type::Tuple(tuple) => tuple.elems.len() > 1,
        Type::Reference(reference) => is_tuple(&reference.elem),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tuple_among_arguments_is_found_and_one_that_stands_alone_or_is_a_pair_by_nature_is_not() {
        let text = "
            fn groups(a: u8, (b, c): (u8, u8)) {}
            fn for_an_iterator((a, b): (u8, u8)) {}
            fn a_list_of_pairs(a: u8, pairs: &[(u8, u8)]) {}
            impl S { fn method(&self, (a, b): &(u8, u8)) {} fn alone(&self, a: u8) {} }";
        assert_eq!(grouping(text).unwrap(), ["groups", "method"]);
    }
}
