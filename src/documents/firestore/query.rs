//! Queries as values.

pub(super) use firestore::gcloud_sdk::google::firestore::v1::structured_query::Direction;
use firestore::gcloud_sdk::google::firestore::v1::structured_query::field_filter::Operator;
use firestore::gcloud_sdk::google::firestore::v1::structured_query::filter::FilterType;
use firestore::gcloud_sdk::google::firestore::v1::structured_query::{
    CollectionSelector, FieldFilter, FieldReference, Filter, Order, Projection,
};
use firestore::gcloud_sdk::google::firestore::v1::{Cursor, StructuredQuery, Value};

/// Values that one `IN` or `ARRAY_CONTAINS_ANY` may name.
pub(super) const VALUES_MAX: usize = 30;

/// All documents of a collection below the parent.
pub(super) fn of(collection: &str) -> StructuredQuery {
    from(collection, false)
}

/// All documents of the collections of that name, wherever they lie. Its fields need an index of that scope.
pub(super) fn of_group(collection: &str) -> StructuredQuery {
    from(collection, true)
}

fn from(collection: &str, all_descendants: bool) -> StructuredQuery {
    let from = vec![CollectionSelector { collection_id: collection.to_owned(), all_descendants }];
    StructuredQuery { from, ..Default::default() }
}

/// Only those of which a field is so.
pub(super) fn matching(query: StructuredQuery, path: &str, op: Operator, value: Value) -> StructuredQuery {
    let filter = FieldFilter { field: Some(field(path)), op: op.into(), value: Some(value) };
    StructuredQuery { r#where: Some(Filter { filter_type: Some(FilterType::FieldFilter(filter)) }), ..query }
}

/// Only these fields of them.
pub(super) fn select(query: StructuredQuery, paths: &[&str]) -> StructuredQuery {
    StructuredQuery { select: Some(Projection { fields: paths.iter().map(|path| field(path)).collect() }), ..query }
}

/// In this order, by one field after the other.
pub(super) fn ordered(query: StructuredQuery, paths: &[&str], direction: Direction) -> StructuredQuery {
    let order_by = paths.iter().map(|path| Order { field: Some(field(path)), direction: direction.into() }).collect();
    StructuredQuery { order_by, ..query }
}

/// Beginning behind the place that the values of the order's fields name.
pub(super) fn after(query: StructuredQuery, values: Vec<Value>) -> StructuredQuery {
    StructuredQuery { start_at: Some(Cursor { values, before: false }), ..query }
}

/// At most so many.
pub(super) fn limit(query: StructuredQuery, limit: usize) -> StructuredQuery {
    StructuredQuery { limit: Some(i32::try_from(limit).unwrap_or(i32::MAX)), ..query }
}

fn field(path: &str) -> FieldReference {
    FieldReference { field_path: path.to_owned() }
}
