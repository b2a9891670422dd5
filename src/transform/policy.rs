//! The policy of an account, compiled once: what would cost something at every event is done at start.

use std::collections::HashSet;
use std::sync::Arc;

use crate::schema::event::EventKind;
use crate::schema::policy::{Level, Policy, Tier};

use super::condition::{Condition, ConditionError};

/// A policy that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A rule names a kind that does not exist.
    #[error("rule {reason}: no event kind is or begins with {kind:?}{}", hint(.nearest.as_deref()))]
    UnknownKind {
        /// The rule.
        reason: String,
        /// What it names.
        kind: String,
        /// The kind that is spelt most like it.
        nearest: Option<String>,
    },
    /// A rule's condition is no CEL, or names what does not exist.
    #[error("rule {reason}: {error}")]
    Condition {
        /// The rule.
        reason: String,
        /// What is wrong, and where in the expression.
        error: ConditionError,
    },
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map(|kind| format!("; did you mean {kind}?")).unwrap_or_default()
}

/// A policy, ready to be asked. Cheap to clone.
#[derive(Debug, Clone)]
pub struct CompiledPolicy(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    policy: Policy,
    /// Descending by threshold.
    tiers: Vec<Tier>,
    lists: HashSet<String>,
    fans: HashSet<String>,
    rules: Vec<CompiledRule>,
    /// A bit for every kind that any rule looks at.
    kinds: u64,
}

/// A rule, ready to be asked.
#[derive(Debug)]
pub struct CompiledRule {
    /// The reason it gives.
    pub reason: String,
    /// The level it asks for.
    pub level: Level,
    kinds: u64,
    /// Only for high-value fans, or only for others.
    pub high_value: Option<bool>,
    /// Only in an active exchange, or only outside one.
    pub active_exchange: Option<bool>,
    /// Only messages with a tip, or only others.
    pub is_tip: Option<bool>,
    /// A further condition.
    pub condition: Option<Condition>,
}

// A kind's bit is its place in the catalogue; a 65th kind has to fail here and not at run time.
const _: () = assert!(EventKind::ALL.len() <= 64);

const fn bit(kind: EventKind) -> u64 {
    1 << (kind as u32)
}

impl CompiledRule {
    /// Whether the rule looks at events of this kind.
    #[must_use]
    pub const fn names(&self, kind: EventKind) -> bool {
        self.kinds & bit(kind) != 0
    }
}

impl CompiledPolicy {
    /// Compiles a policy.
    ///
    /// # Errors
    /// Where a rule names an unknown kind or its condition does not compile.
    pub fn new(policy: Policy) -> Result<Self, PolicyError> {
        let mut rules = Vec::with_capacity(policy.rules.len());
        for rule in &policy.rules {
            for wanted in &rule.kinds {
                let known = EventKind::ALL
                    .iter()
                    .any(|kind| kind.name() == wanted || (wanted.ends_with('.') && kind.name().starts_with(wanted.as_str())));
                if !known {
                    let (reason, kind) = (rule.reason.clone(), wanted.clone());
                    return Err(PolicyError::UnknownKind { reason, nearest: nearest_kind(&kind), kind });
                }
            }
            let condition = rule
                .when
                .as_deref()
                .map(Condition::compile)
                .transpose()
                .map_err(|error| PolicyError::Condition { reason: rule.reason.clone(), error })?;
            rules.push(CompiledRule {
                reason: rule.reason.clone(),
                level: rule.level,
                kinds: EventKind::ALL.iter().filter(|&&kind| rule.names(kind)).fold(0, |bits, &kind| bits | bit(kind)),
                high_value: rule.high_value,
                active_exchange: rule.active_exchange,
                is_tip: rule.is_tip,
                condition,
            });
        }
        let mut tiers = policy.tiers.clone();
        tiers.sort_by_key(|tier| std::cmp::Reverse(tier.spend_min));
        Ok(Self(Arc::new(Inner {
            tiers,
            lists: policy.high_value.lists.iter().cloned().collect(),
            fans: policy.high_value.fans.iter().cloned().collect(),
            kinds: rules.iter().fold(0, |bits, rule| bits | rule.kinds),
            rules,
            policy,
        })))
    }

    /// The policy as it was written.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.0.policy
    }

    /// The rules, in the order in which they were written.
    #[must_use]
    pub fn rules(&self) -> &[CompiledRule] {
        &self.0.rules
    }

    /// Whether any rule looks at this kind.
    #[must_use]
    pub fn any_rule_names(&self, kind: EventKind) -> bool {
        self.0.kinds & bit(kind) != 0
    }

    /// The tier of a value, and its number: 0 is the lowest.
    #[must_use]
    pub fn tier(&self, value: i64) -> (&str, usize) {
        let tiers = &self.0.tiers;
        match tiers.iter().position(|tier| tier.spend_min <= value) {
            Some(at) => (&tiers[at].name, tiers.len() - 1 - at),
            None => ("", 0),
        }
    }

    /// Whether the policy names this list.
    #[must_use]
    pub fn names_list(&self, list: &str) -> bool {
        !self.0.lists.is_empty() && self.0.lists.contains(list)
    }

    /// Whether the policy names this fan.
    #[must_use]
    pub fn names_fan(&self, fan: &str) -> bool {
        !self.0.fans.is_empty() && self.0.fans.contains(fan)
    }
}

fn nearest_kind(name: &str) -> Option<String> {
    let (distance, kind) = EventKind::ALL.iter().map(|kind| (strsim::damerau_levenshtein(name, kind.name()), kind.name())).min()?;
    (distance <= 4).then(|| kind.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::policy::PriorityRule;

    fn rule(kind: &str, when: Option<&str>) -> PriorityRule {
        PriorityRule {
            reason: "r".into(),
            level: Level::Low,
            kinds: vec![kind.into()],
            high_value: None,
            active_exchange: None,
            is_tip: None,
            when: when.map(str::to_owned),
        }
    }

    #[test]
    fn mistakes_in_rules_are_found_at_start() {
        for (rule, expected) in [
            (rule("tip.recieved", None), "rule r: no event kind is or begins with \"tip.recieved\"; did you mean tip.received?"),
            (rule("tips.", None), "rule r: no event kind is or begins with \"tips.\""),
            (rule("tip.", Some("event.money_minor >")), "rule r: condition"),
        ] {
            let error = CompiledPolicy::new(Policy { rules: vec![rule], ..Policy::default() }).expect_err("must be refused");
            assert!(error.to_string().starts_with(expected), "{error}");
        }
    }

    #[test]
    fn tiers_go_by_the_greatest_threshold_reached() {
        let policy = CompiledPolicy::new(Policy::default()).expect("the defaults compile");
        for (value, expected) in [(0, ("none", 0)), (1, ("low", 1)), (2_499, ("low", 1)), (25_000, ("high", 3)), (1 << 40, ("whale", 4))] {
            assert_eq!(policy.tier(value), expected, "{value}");
        }
    }
}
