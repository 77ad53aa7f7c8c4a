//! Questions about the phases and root states of `rotation` that stand elsewhere and name only some of the cases. A phase that
//! is added would be answered there by whatever came last; in `rotation` the compiler asks about it.

use std::path::{Path, PathBuf};

use anyhow::Context;
use syn::visit::{self, Visit};
use syn::{
    BinOp, Expr, ExprBinary, ExprLet, ExprMatch, ImplItemFn, ItemFn, ItemMod, Local, Macro, Pat,
};

use super::sources;

const ENUMS: [&str; 2] = ["Phase", "RootState"];
/// The crate whose enums they are.
const OWNER: &str = "rotation/";

/// Places outside of `rotation`, and outside of tests, that ask for some cases and take the others together.
pub(super) fn complaints(root: &Path, manifests: &[PathBuf]) -> anyhow::Result<Vec<String>> {
    let mut all = Vec::new();
    for manifest in manifests {
        let folder = manifest.parent().context("a manifest lies in a folder")?;
        for (path, text) in sources::below(folder)? {
            let shown = path.strip_prefix(root).unwrap_or(&path).display().to_string();
            if shown.starts_with(OWNER)
                || is_test(&shown)
                || !ENUMS.iter().any(|name| text.contains(name))
            {
                continue;
            }
            let found = partial(&text).with_context(|| format!("parse {shown}"))?;
            all.extend(found.into_iter().map(|Asked { function, how }| {
                format!(
                    "{shown}: `{function}` asks for some phases or root states by {how}: ask a method of \
                     rotation/src/questions.rs, or name every case"
                )
            }));
        }
    }
    Ok(all)
}

fn is_test(path: &str) -> bool {
    path.starts_with("integration-tests/") || path.contains("/tests/") || path.ends_with("tests.rs")
}

/// What a file asks in part.
fn partial(text: &str) -> syn::Result<Vec<Asked>> {
    let mut looking = Looking::default();
    looking.visit_file(&syn::parse_file(text)?);
    Ok(looking.found)
}

#[derive(Debug, PartialEq, Eq)]
struct Asked {
    /// The function that asks.
    function: String,
    how: &'static str,
}

#[derive(Default)]
struct Looking {
    function: String,
    found: Vec<Asked>,
}

impl Looking {
    fn complain(&mut self, how: &'static str) {
        self.found.push(Asked { function: self.function.clone(), how });
    }
}

impl<'ast> Visit<'ast> for Looking {
    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        if module.ident != "tests" {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        self.function = function.sig.ident.to_string();
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        self.function = function.sig.ident.to_string();
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_expr_match(&mut self, expression: &'ast ExprMatch) {
        let asks = expression.arms.iter().any(|arm| names_a_case(&arm.pat));
        if asks && expression.arms.iter().any(|arm| takes_any(&arm.pat)) {
            self.complain("a match with an arm for any other");
        }
        visit::visit_expr_match(self, expression);
    }

    fn visit_expr_let(&mut self, expression: &'ast ExprLet) {
        if names_a_case(&expression.pat) {
            self.complain("`if let`");
        }
        visit::visit_expr_let(self, expression);
    }

    fn visit_local(&mut self, local: &'ast Local) {
        if names_a_case(&local.pat) {
            self.complain("`let ... else`");
        }
        visit::visit_local(self, local);
    }

    fn visit_expr_binary(&mut self, expression: &'ast ExprBinary) {
        let compares = matches!(expression.op, BinOp::Eq(_) | BinOp::Ne(_));
        if compares && (is_case(&expression.left) || is_case(&expression.right)) {
            self.complain("a comparison");
        }
        visit::visit_expr_binary(self, expression);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        let name = call.path.segments.last().map(|segment| segment.ident.to_string());
        let tokens = call.tokens.to_string();
        let asks = ENUMS.iter().any(|name| tokens.contains(&format!("{name} ::")));
        if name.is_some_and(|name| name == "matches") && asks {
            self.complain("`matches!`");
        }
        visit::visit_macro(self, call);
    }
}

/// Whether a path is a case of one of the enums.
fn is_of_enum(path: &syn::Path) -> bool {
    let owner = path.segments.iter().rev().nth(1);
    owner.is_some_and(|owner| ENUMS.iter().any(|name| owner.ident == name))
}

fn is_case(expression: &Expr) -> bool {
    matches!(expression, Expr::Path(path) if is_of_enum(&path.path))
}

/// Whether a pattern names a case, at any depth.
fn names_a_case(pattern: &Pat) -> bool {
    struct Named(bool);
    impl<'ast> Visit<'ast> for Named {
        fn visit_path(&mut self, path: &'ast syn::Path) {
            self.0 |= is_of_enum(path);
            visit::visit_path(self, path);
        }
    }
    let mut named = Named(false);
    named.visit_pat(pattern);
    named.0
}

/// Whether a pattern takes whatever comes.
fn takes_any(pattern: &Pat) -> bool {
    match pattern {
        Pat::Wild(_) | Pat::Rest(_) => true,
        Pat::Ident(named) => {
            named.subpat.is_none()
                && named.ident.to_string().starts_with(|first: char| first.is_lowercase())
        }
        Pat::Tuple(tuple) => tuple.elems.iter().all(takes_any),
        Pat::Reference(reference) => takes_any(&reference.pat),
        Pat::Paren(inner) => takes_any(&inner.pat),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_names_some_phases_and_takes_the_others_together_is_found() {
        let text = "
            fn by_any(phase: &Phase) -> bool { match phase { Phase::Steady(_) => true, _ => false } }
            fn by_name(phase: &Phase) -> bool { match phase { rotation::Phase::Steady(_) => true, other => other.x() } }
            fn of_two(a: &Phase, b: u8) -> bool { match (a, b) { (Phase::Steady(_), 1) => true, (_, _) => false } }
            impl S { fn by_macro(&self) -> bool { matches!(self.phase, Phase::Draining(_)) } }
            fn by_let(phase: &Phase) { if let Phase::Steady(steady) = phase { use_it(steady) } }
            fn by_else(phase: &Phase) { let Phase::Steady(steady) = phase else { return }; }
            fn by_comparison(state: RootState) -> bool { state != RootState::Retired }";
        let found: Vec<_> =
            partial(text).unwrap().into_iter().map(|asked| asked.function).collect();
        assert_eq!(
            found,
            ["by_any", "by_name", "of_two", "by_macro", "by_let", "by_else", "by_comparison"]
        );
    }

    #[test]
    fn whoever_names_every_case_asks_a_method_or_tests_is_not() {
        let text = "
            fn every(state: RootState) -> u8 { match state { RootState::Staged | RootState::Active => 1, RootState::Retired => 2 } }
            fn asks(phase: &Phase) -> bool { phase.is_uninitialised() }
            fn makes() -> Phase { Phase::Uninitialised }
            fn other(effect: &Effect) -> bool { match effect { Effect::Switch => true, _ => false } }
            mod tests { fn it() { assert!(matches!(phase, Phase::Steady(_))) } }";
        assert_eq!(partial(text).unwrap(), []);
    }
}
