//! What a database needs beside its documents: TTL policies, indexes, and the indexes it should not have.
//!
//! Owns: the list of them, which `deploy/firestore.indexes.json` repeats for the Firebase CLI; comparing it with a database; making it so. Adds
//! and changes only what is listed here, and deletes nothing.

use firestore::gcloud_sdk::google::firestore::admin::v1::field::{IndexConfig, TtlConfig};
use firestore::gcloud_sdk::google::firestore::admin::v1::firestore_admin_client::FirestoreAdminClient;
use firestore::gcloud_sdk::google::firestore::admin::v1::index::index_field::{Order, ValueMode};
use firestore::gcloud_sdk::google::firestore::admin::v1::index::{IndexField, QueryScope};
use firestore::gcloud_sdk::google::firestore::admin::v1::{
    CreateIndexRequest, Field, GetFieldRequest, Index, ListIndexesRequest, UpdateFieldRequest,
};
use firestore::gcloud_sdk::{GoogleAuthMiddleware, prost_types::FieldMask};
use serde_json::{Value as Json, json};
use tonic::{Code, Status};

use super::super::DocumentsError;
use super::{FirestoreDocuments, Rpc};
use crate::runtime::provision::{Action, Change};

/// The single-field indexes that a field should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Indexed {
    /// None: it is never asked for, and its index would cost storage and limit how fast is written.
    No,
    /// Within its own collection, and over all collections of the name.
    Everywhere,
    /// Over all collections of the name alone.
    Group,
}

struct FieldPolicy {
    group: &'static str,
    field: &'static str,
    indexed: Indexed,
    ttl: bool,
}

const fn field(group: &'static str, field: &'static str, indexed: Indexed) -> FieldPolicy {
    FieldPolicy { group, field, indexed, ttl: false }
}

const fn ttl(group: &'static str) -> FieldPolicy {
    FieldPolicy { group, field: "expire_at", indexed: Indexed::No, ttl: true }
}

const FIELDS: [FieldPolicy; 12] = [
    field("messages", "text", Indexed::No),
    field("messages", "html", Indexed::No),
    field("messages", "key", Indexed::Group),
    ttl("messages"),
    field("fans", "fold", Indexed::No),
    field("fans", "recent", Indexed::No),
    field("fans", "fan_key", Indexed::Everywhere),
    ttl("fans"),
    field("accounts", "fold", Indexed::No),
    ttl("accounts"),
    field("deletes", "key", Indexed::Group),
    ttl("deletes"),
];

/// The one composite index: the history, newest first.
const HISTORY: (&str, [&str; 2]) = ("messages", ["sent_at", "message_id"]);

/// The file that the Firebase CLI takes: the same indexes and policies.
#[must_use]
pub fn indexes_json() -> Json {
    let (group, fields) = HISTORY;
    let order = |path: &&str| json!({ "fieldPath": path, "order": "DESCENDING" });
    let composite = json!({ "collectionGroup": group, "queryScope": "COLLECTION", "fields": fields.iter().map(order).collect::<Json>() });
    let overridden = |policy: &FieldPolicy| {
        let index = |scope: &QueryScope| json!({ "order": "ASCENDING", "queryScope": scope.as_str_name() });
        let indexes: Json = policy.indexed.scopes().iter().map(index).collect();
        json!({ "collectionGroup": policy.group, "fieldPath": policy.field, "ttl": policy.ttl, "indexes": indexes })
    };
    json!({ "indexes": [composite], "fieldOverrides": FIELDS.iter().map(overridden).collect::<Json>() })
}

impl FirestoreDocuments {
    /// Compares the database with what it should have, and changes nothing.
    ///
    /// # Errors
    /// Where it cannot be asked.
    pub async fn plan(&self) -> Result<Vec<Change>, DocumentsError> {
        Admin::of(&self.store.rpc).run(false).await
    }

    /// Makes the database have what it should, and says what it did. Firestore then builds the indexes, which takes minutes, longer where
    /// there are many documents. Done again it changes nothing.
    ///
    /// # Errors
    /// Where it cannot be asked or does not allow it; what was done by then stays.
    pub async fn apply(&self) -> Result<Vec<Change>, DocumentsError> {
        Admin::of(&self.store.rpc).run(true).await
    }
}

impl Indexed {
    const fn scopes(self) -> &'static [QueryScope] {
        match self {
            Self::No => &[],
            Self::Everywhere => &[QueryScope::Collection, QueryScope::CollectionGroup],
            Self::Group => &[QueryScope::CollectionGroup],
        }
    }
}

struct Admin<'r> {
    rpc: &'r Rpc,
    client: FirestoreAdminClient<GoogleAuthMiddleware>,
}

impl<'r> Admin<'r> {
    fn of(rpc: &'r Rpc) -> Self {
        Self { rpc, client: rpc.database().client().get_with(FirestoreAdminClient::new) }
    }

    async fn run(&self, apply: bool) -> Result<Vec<Change>, DocumentsError> {
        let mut changes = Vec::new();
        for policy in &FIELDS {
            changes.extend(self.field(policy, apply).await?);
        }
        changes.push(self.history_index(apply).await?);
        Ok(changes)
    }

    /// Indexes and, where there is to be one, the TTL policy of a field.
    async fn field(&self, policy: &FieldPolicy, apply: bool) -> Result<Vec<Change>, DocumentsError> {
        let FieldPolicy { group, field, .. } = policy;
        let name = format!("{}/fields/{field}", self.group(group));
        let indexes = format!("single-field indexes of {group}.{field}");
        let time_to_live = format!("TTL policy on {group}.{field}");
        let request = GetFieldRequest { name: name.clone() };
        let read = self
            .rpc
            .read("reading index settings", async || answer(self.client.clone().get_field(self.rpc.request(request.clone())).await));
        let stored = match read.await? {
            Ok(stored) => stored,
            Err(reason) => {
                let resources = std::iter::once(indexes).chain(policy.ttl.then_some(time_to_live));
                return Ok(resources.map(|resource| unsupported(resource, &reason)).collect());
            }
        };
        let mut changes = vec![Change { resource: indexes, action: compare_indexes(&stored, policy.indexed) }];
        if policy.ttl {
            let action = if stored.ttl_config.is_some() { Action::Same } else { Action::Create };
            changes.push(Change { resource: time_to_live, action });
        }
        if apply {
            for (change, path) in changes.iter_mut().zip(["index_config", "ttl_config"]) {
                if change.action != Action::Same {
                    let wanted = Field {
                        name: name.clone(),
                        index_config: (path == "index_config").then(|| index_config(policy)),
                        ttl_config: (path == "ttl_config").then(TtlConfig::default),
                    };
                    let request = UpdateFieldRequest { field: Some(wanted), update_mask: Some(FieldMask { paths: vec![path.to_owned()] }) };
                    let update = self.rpc.read("changing index settings", async || {
                        answer(self.client.clone().update_field(self.rpc.request(request.clone())).await)
                    });
                    if let Err(reason) = update.await? {
                        change.action = Action::Unsupported(reason);
                    }
                }
            }
        }
        Ok(changes)
    }

    async fn history_index(&self, apply: bool) -> Result<Change, DocumentsError> {
        let (group, fields) = HISTORY;
        let resource = format!("composite index of {group}: {} descending", fields.join(", "));
        let parent = self.group(group);
        let mut page_token = String::new();
        loop {
            let request = ListIndexesRequest { parent: parent.clone(), page_token, ..Default::default() };
            let list = self
                .rpc
                .read("listing indexes", async || answer(self.client.clone().list_indexes(self.rpc.request(request.clone())).await));
            let page = match list.await? {
                Ok(page) => page,
                Err(reason) => return Ok(unsupported(resource, &reason)),
            };
            if page.indexes.iter().any(is_history) {
                return Ok(Change { resource, action: Action::Same });
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        if apply {
            let request = CreateIndexRequest { parent, index: Some(history_index()) };
            let create = self.rpc.read("making an index", async || {
                match self.client.clone().create_index(self.rpc.request(request.clone())).await {
                    // Made in between, or by a first try whose answer was lost.
                    Err(status) if status.code() == Code::AlreadyExists => Ok(Ok(())),
                    made => answer(made).map(|made| made.map(drop)),
                }
            });
            if let Err(reason) = create.await? {
                return Ok(unsupported(resource, &reason));
            }
        }
        Ok(Change { resource, action: Action::Create })
    }

    fn group(&self, group: &str) -> String {
        format!("{}/collectionGroups/{group}", self.rpc.names.database)
    }
}

/// An answer, or why this server never gives one.
fn answer<T>(answer: Result<tonic::Response<T>, Status>) -> Result<Result<T, String>, Status> {
    match answer {
        Ok(answer) => Ok(Ok(answer.into_inner())),
        Err(status) if status.code() == Code::Unimplemented => {
            Ok(Err("this server does not manage indexes and TTL policies, as emulators do not".to_owned()))
        }
        Err(status) => Err(status),
    }
}

fn unsupported(resource: String, reason: &str) -> Change {
    Change { resource, action: Action::Unsupported(reason.to_owned()) }
}

fn compare_indexes(stored: &Field, wanted: Indexed) -> Action {
    let config = stored.index_config.as_ref().filter(|config| !config.uses_ancestor_config);
    let told = |scopes: &[QueryScope]| match scopes {
        [] => "none".to_owned(),
        scopes => scopes.iter().map(|scope| scope.as_str_name()).collect::<Vec<_>>().join(", "),
    };
    let from = match config {
        None => "the default".to_owned(),
        Some(config) => {
            let mut scopes: Vec<QueryScope> = config.indexes.iter().map(Index::query_scope).collect();
            scopes.sort_unstable();
            let is_ascending = |index: &Index| index.fields.iter().all(|field| field.value_mode == Some(ascending()));
            if scopes == wanted.scopes() && config.indexes.iter().all(is_ascending) {
                return Action::Same;
            }
            told(&scopes)
        }
    };
    Action::Update { field: "index_config", from, to: told(wanted.scopes()) }
}

fn ascending() -> ValueMode {
    ValueMode::Order(Order::Ascending.into())
}

fn index_config(policy: &FieldPolicy) -> IndexConfig {
    let index = |scope: &QueryScope| Index {
        query_scope: (*scope).into(),
        fields: vec![IndexField { field_path: policy.field.to_owned(), value_mode: Some(ascending()) }],
        ..Default::default()
    };
    IndexConfig { indexes: policy.indexed.scopes().iter().map(index).collect(), ..Default::default() }
}

fn history_index() -> Index {
    let descending = |path: &str| IndexField { field_path: path.to_owned(), value_mode: Some(ValueMode::Order(Order::Descending.into())) };
    Index { query_scope: QueryScope::Collection.into(), fields: HISTORY.1.map(descending).into(), ..Default::default() }
}

/// Firestore adds the document's name to the fields of an index.
fn is_history(index: &Index) -> bool {
    let fields: Vec<&IndexField> = index.fields.iter().filter(|field| field.field_path != "__name__").collect();
    index.query_scope() == QueryScope::Collection && fields.into_iter().eq(history_index().fields.iter())
}
