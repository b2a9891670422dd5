//! A CEL expression that says yes or no, checked once against what it may name.
//!
//! Owns: finding at start what would otherwise silently never hold: a field that does not exist, types that do not go together, a result
//! that is no boolean. Does not own the facts an expression is asked about ([`super::facts`]). Invariant: an error points at a place in
//! the expression.

use std::fmt;

use cel::common::ast::{EntryExpr, Expr, IdedExpr};
use cel::objects::{Key, Map};
use cel::{Context, ExecutionError, ParseErrors, Program, Value};
use unicode_width::UnicodeWidthStr;

/// Longest expression, bytes.
const LENGTH_MAX: usize = 4_096;
/// Names of types, which an expression may compare with: `type(x) == string`.
const TYPES: [&str; 10] = ["bool", "bytes", "double", "dyn", "int", "list", "map", "null_type", "string", "uint"];

/// Variables by name.
pub(super) type Variables = Vec<(&'static str, Value)>;

/// What is wrong with an expression, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpressionError {
    source: String,
    /// Where it is, in bytes.
    at: usize,
    message: String,
}

/// A compiled expression.
pub(super) struct Expression {
    source: String,
    program: Program,
}

impl Expression {
    /// Compiles an expression over variables that have the fields and types of `neutral`.
    ///
    /// # Errors
    /// Where it is no CEL, names what is not there, or gives no boolean.
    pub(super) fn compile(source: &str, neutral: &[(&'static str, Value)]) -> Result<Self, ExpressionError> {
        let error = |at, message: String| ExpressionError { source: source.to_owned(), at, message };
        if source.len() > LENGTH_MAX {
            return Err(error(0, format!("an expression has at most {LENGTH_MAX} bytes, this one has {}", source.len())));
        }
        let program = Program::compile(source).map_err(|errors| {
            let (at, message) = first(source, &errors);
            error(at, message)
        })?;
        let check = Check { program: &program, neutral };
        check.names(program.expression(), &mut Vec::new()).map_err(|(at, message)| error(at, message))?;
        let context = context(neutral.to_vec());
        check.types(program.expression(), &context).map_err(|(at, message)| error(at, message))?;
        match program.execute(&context) {
            Ok(Value::Bool(_)) | Err(_) => Ok(Self { source: source.to_owned(), program }),
            Ok(other) => Err(error(0, format!("it gives a value of type {}, not true or false", other.type_of()))),
        }
    }

    /// Whether the expression holds. One that fails or gives no boolean does not.
    pub(super) fn holds(&self, variables: Variables) -> bool {
        matches!(self.program.execute(&context(variables)), Ok(Value::Bool(true)))
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.source).finish()
    }
}

fn context<'v>(variables: Variables) -> Context<'static, 'v> {
    let mut context = Context::default();
    for (name, value) in variables {
        context.add_variable_from_value(name, value);
    }
    context
}

/// A place, in bytes, and what is wrong there.
type Mistake = (usize, String);

struct Check<'a> {
    program: &'a Program,
    neutral: &'a [(&'static str, Value)],
}

impl Check<'_> {
    /// Every variable and field that is named exists. `own` are the variables that macros bring.
    fn names<'e>(&self, node: &'e IdedExpr, own: &mut Vec<&'e str>) -> Result<(), Mistake> {
        match &node.expr {
            Expr::Ident(name) => {
                let is_known = own.contains(&name.as_str()) || TYPES.contains(&name.as_str()) || self.fields(name).is_some();
                if is_known {
                    return Ok(());
                }
                let known: Vec<&str> = self.neutral.iter().map(|(name, _)| *name).collect();
                Err((self.at(node), format!("there is no `{name}`; there are {}", known.join(", "))))
            }
            Expr::Select(select) => {
                let Expr::Ident(root) = &select.operand.expr else { return self.names(&select.operand, own) };
                let fields = if own.contains(&root.as_str()) { None } else { self.fields(root) };
                let Some(fields) = fields else { return self.names(&select.operand, own) };
                if fields.contains(&select.field.as_str()) {
                    return Ok(());
                }
                // The node stands at its dot.
                let dot = self.at(node);
                let rest = &self.program.source_info().source[dot..];
                let at = dot + rest.find(select.field.as_str()).unwrap_or(0);
                Err((at, format!("`{root}` has no field `{}`; {}", select.field, nearest(&select.field, &fields))))
            }
            Expr::Comprehension(part) => {
                self.names(&part.iter_range, own)?;
                let depth = own.len();
                own.extend([part.iter_var.as_str(), part.accu_var.as_str()]);
                own.extend(part.iter_var2.as_deref());
                let parts = [&part.accu_init, &part.loop_cond, &part.loop_step, &part.result];
                let outcome = parts.into_iter().try_for_each(|part| self.names(part, own));
                own.truncate(depth);
                outcome
            }
            _ => children(node).into_iter().try_for_each(|child| self.names(child, own)),
        }
    }

    /// Every part can be worked out from neutral values, the innermost first, so that the place is that of the mistake itself. What depends on
    /// the values (a division by zero, a text that is no number) is none.
    fn types(&self, node: &IdedExpr, context: &Context<'_, '_>) -> Result<(), Mistake> {
        match &node.expr {
            // What a macro works on has no value of its own.
            Expr::Comprehension(part) => self.types(&part.iter_range, context)?,
            _ => children(node).into_iter().try_for_each(|child| self.types(child, context))?,
        }
        match Value::resolve(node, context) {
            Ok(_) => Ok(()),
            Err(
                ExecutionError::DivisionByZero(_)
                | ExecutionError::RemainderByZero(_)
                | ExecutionError::Overflow(..)
                | ExecutionError::IndexOutOfBounds(_)
                | ExecutionError::FunctionError { .. },
            ) => Ok(()),
            Err(error) => Err((self.at(node), in_words(&error))),
        }
    }

    fn fields(&self, name: &str) -> Option<Vec<&str>> {
        let (_, value) = self.neutral.iter().find(|(known, _)| *known == name)?;
        let Value::Map(Map { map }) = value else { return None };
        let mut fields: Vec<&str> =
            map.keys().filter_map(|key| if let Key::String(name) = key { Some(name.as_str()) } else { None }).collect();
        fields.sort_unstable();
        Some(fields)
    }

    fn at(&self, node: &IdedExpr) -> usize {
        let info = self.program.source_info();
        info.offset_for(node.id).map_or(0, |(start, _)| info.source.floor_char_boundary(start as usize))
    }
}

/// The parts of a node that have a value of their own.
fn children(node: &IdedExpr) -> Vec<&IdedExpr> {
    match &node.expr {
        Expr::Call(call) => call.target.as_deref().into_iter().chain(&call.args).collect(),
        Expr::Select(select) => vec![&select.operand],
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Map(map) => map.entries.iter().flat_map(|entry| parts(&entry.expr)).collect(),
        Expr::Struct(made) => made.entries.iter().flat_map(|entry| parts(&entry.expr)).collect(),
        Expr::Comprehension(_) | Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => Vec::new(),
    }
}

fn parts(entry: &EntryExpr) -> Vec<&IdedExpr> {
    match entry {
        EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
        EntryExpr::StructField(field) => vec![&field.value],
    }
}

/// The byte at which a line's character stands.
fn byte_of(source: &str, chars: usize) -> usize {
    source.char_indices().nth(chars).map_or(source.len(), |(at, _)| at)
}

/// The first of what the parser found.
fn first(source: &str, errors: &ParseErrors) -> Mistake {
    let Some(error) = errors.errors.first() else { return (0, "no CEL expression".to_owned()) };
    let (line, column) = (usize::try_from(error.pos.0).unwrap_or(1), usize::try_from(error.pos.1).unwrap_or(1));
    let begin: usize = source.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let at = begin + byte_of(&source[begin..], column.saturating_sub(1));
    // What it would have expected is half of the grammar.
    let message = error.msg.strip_prefix("Syntax error: ").unwrap_or(&error.msg);
    let message = message.split(" expecting ").next().unwrap_or(message).replace(['\n', '\r'], " ");
    (at, if message.contains("<EOF>") { "the expression ends too early".to_owned() } else { message })
}

fn in_words(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchKey(name) => format!("there is no field `{name}`"),
        ExecutionError::UndeclaredReference(name) => format!("there is no `{name}`"),
        ExecutionError::NoSuchOverload(overload) => {
            let types = overload.argument_types().join(" and ");
            let function = overload.function().trim_matches('_').trim_matches('@');
            format!("`{function}` does not go with {types}")
        }
        other => other.to_string().replace(['\n', '\r'], " "),
    }
}

fn nearest(name: &str, fields: &[&str]) -> String {
    let near = fields.iter().map(|field| (strsim::damerau_levenshtein(name, field), *field)).min();
    match near {
        Some((distance, field)) if distance <= 2.max(name.len() / 3) => format!("did you mean `{field}`?"),
        _ => format!("it has {}", fields.join(", ")),
    }
}

impl ExpressionError {
    /// The column of what is wrong, from 1, counted in characters of its line.
    #[must_use]
    pub fn column(&self) -> usize {
        self.line().1.chars().count() + 1
    }

    /// What is wrong on a line of its own, and below it the line of the expression with a caret under the place.
    #[must_use]
    pub fn pointed(&self) -> String {
        let (line, before) = self.line();
        // Tabs and the like would move the caret away.
        let plain = |text: &str| text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
        format!("{}\n\n  {}\n  {}^", self.message, plain(line), " ".repeat(plain(before).width()))
    }

    /// The line that it stands in, and the part of it before the place.
    fn line(&self) -> (&str, &str) {
        let begin = self.source[..self.at].rfind('\n').map_or(0, |newline| newline + 1);
        let line = self.source[begin..].lines().next().unwrap_or_default();
        (line, &self.source[begin..self.at])
    }
}

/// One line. [`ExpressionError::pointed`] has three.
impl fmt::Display for ExpressionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column {}: {}", self.column(), self.message)
    }
}

impl std::error::Error for ExpressionError {}
