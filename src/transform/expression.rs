//! A CEL expression that says yes or no, checked once against what it may name.
//!
//! Owns: finding at start what would otherwise silently never hold: a field that does not exist, types that do not go together, a result
//! that is no boolean. Does not own the facts an expression is asked about ([`super::facts`]). Invariant: an error points at a place in
//! the expression.

use std::fmt;

use cel::common::ast::{ComprehensionExpr, EntryExpr, Expr, IdedExpr, operators};
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

    /// Whether the expression holds.
    ///
    /// # Errors
    /// Why it cannot be worked out for these values: it divides by zero, takes a text for a number that is none, or asks a list for more than it has.
    pub(super) fn holds(&self, variables: Variables) -> Result<bool, String> {
        match self.program.execute(&context(variables)) {
            Ok(Value::Bool(holds)) => Ok(holds),
            Ok(other) => Err(format!("it gives a value of type {}, not true or false", other.type_of())),
            Err(error) => Err(in_words(&error)),
        }
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
            Expr::Comprehension(part) => {
                self.types(&part.iter_range, context)?;
                self.body(part, context)?;
            }
            _ => children(node).into_iter().try_for_each(|child| self.types(child, context))?,
        }
        match Value::resolve(node, context) {
            Ok(_) => self.comparison(node, context),
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

    /// What a macro does with each element, for a list of which it is known what is in it.
    fn body(&self, part: &ComprehensionExpr, context: &Context<'_, '_>) -> Result<(), Mistake> {
        if part.iter_var2.is_some() {
            return Ok(());
        }
        let Some(element) = self.elements(&part.iter_range, context).into_iter().next() else { return Ok(()) };
        let Ok(begun) = Value::resolve(&part.accu_init, context) else { return Ok(()) };
        let mut inner = context.new_inner_scope();
        inner.add_variable_from_value(&part.iter_var, element);
        inner.add_variable_from_value(&part.accu_var, begun);
        self.types(&part.loop_step, &inner)
    }

    /// CEL has values of different types be different, without a word: a comparison that can have but one outcome.
    fn comparison(&self, node: &IdedExpr, context: &Context<'_, '_>) -> Result<(), Mistake> {
        let Expr::Call(call) = &node.expr else { return Ok(()) };
        let [left, right] = &call.args[..] else { return Ok(()) };
        let (Ok(one), Ok(other)) = (Value::resolve(left, context), Value::resolve(right, context)) else { return Ok(()) };
        let message = match call.func_name.as_str() {
            operators::EQUALS | operators::NOT_EQUALS if are_apart(&one, &other) => {
                let (operator, outcome) = if call.func_name == operators::EQUALS { ("==", "never") } else { ("!=", "always") };
                format!("`{operator}` compares {} with {}, which {outcome} holds", type_name(&one), type_name(&other))
            }
            operators::IN => {
                let elements = self.elements(right, context);
                let Some(first) = elements.first().filter(|_| elements.iter().all(|element| are_apart(&one, element))) else {
                    return Ok(());
                };
                format!("`in` looks for {} in a list of {}, which never holds", type_name(&one), type_name(first))
            }
            _ => return Ok(()),
        };
        Err((self.at(node), message))
    }

    /// Elements as a list has them; nothing where it is not known. The lists of the facts, which are empty here, hold texts.
    fn elements(&self, list: &IdedExpr, context: &Context<'_, '_>) -> Vec<Value> {
        let is_fact =
            matches!(&list.expr, Expr::Select(select) if matches!(&select.operand.expr, Expr::Ident(root) if self.fields(root).is_some()));
        match Value::resolve(list, context) {
            Ok(Value::List(elements)) if elements.is_empty() && is_fact => vec![String::new().into()],
            Ok(Value::List(elements)) => elements.to_vec(),
            _ => Vec::new(),
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

/// Whether two values are of types that CEL never finds equal. Numbers of any type may be.
fn are_apart(one: &Value, other: &Value) -> bool {
    let kind = |value: &Value| match value {
        Value::Int(_) | Value::UInt(_) | Value::Float(_) => Some(0),
        Value::String(_) => Some(1u8),
        Value::Bool(_) => Some(2),
        Value::Bytes(_) => Some(3),
        Value::List(_) => Some(4),
        Value::Map(_) => Some(5),
        Value::Null => Some(6),
        _ => None,
    };
    kind(one).zip(kind(other)).is_some_and(|(one, other)| one != other)
}

fn type_name(value: &Value) -> String {
    value.type_of().to_string()
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
        ExecutionError::FunctionError { function, message } => format!("`{function}`: {message}").replace(['\n', '\r'], " "),
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
