# Who may do what, on the resources themselves where Google has rights for them (docs/google.md). The dashboard and auth-refresh ask Google for nothing.

data "google_project" "this" {
  project_id = var.project
}

locals {
  daemons      = toset(["ingest", "snapshot"])
  pubsub_agent = "serviceAccount:service-${data.google_project.this.number}@gcp-sa-pubsub.iam.gserviceaccount.com"
  member       = { for daemon, account in google_service_account.daemon : daemon => "serviceAccount:${account.email}" }
}

resource "google_service_account" "daemon" {
  for_each = local.daemons

  account_id   = "convpipe-${each.key}"
  display_name = "convpipe ${each.key}"
}

resource "google_pubsub_topic_iam_member" "ingest" {
  for_each = toset([var.topic, var.quarantine_topic])

  topic  = google_pubsub_topic.all[each.key].id
  role   = "roles/pubsub.publisher"
  member = local.member["ingest"]
}

resource "google_pubsub_topic_iam_member" "snapshot" {
  topic  = google_pubsub_topic.all[var.quarantine_topic].id
  role   = "roles/pubsub.publisher"
  member = local.member["snapshot"]
}

resource "google_pubsub_subscription_iam_member" "snapshot" {
  for_each = { for pair in setproduct(keys(local.consumed), ["subscriber", "viewer"]) : "${pair[0]}.${pair[1]}" => pair }

  subscription = google_pubsub_subscription.consumed[each.value[0]].id
  role         = "roles/pubsub.${each.value[1]}"
  member       = local.member["snapshot"]
}

# Without these nothing ever reaches the dead-letter topic.
resource "google_pubsub_topic_iam_member" "dead_letter" {
  topic  = google_pubsub_topic.all[var.dead_letter_topic].id
  role   = "roles/pubsub.publisher"
  member = local.pubsub_agent
}

resource "google_pubsub_subscription_iam_member" "dead_letter" {
  for_each = local.consumed

  subscription = google_pubsub_subscription.consumed[each.key].id
  role         = "roles/pubsub.subscriber"
  member       = local.pubsub_agent
}

# Firestore has rights for a database at the finest.
resource "google_project_iam_member" "documents" {
  project = var.project
  role    = "roles/datastore.user"
  member  = local.member["snapshot"]

  condition {
    title      = "the database of convpipe"
    expression = "resource.name == \"projects/${var.project}/databases/${var.database}\""
  }
}

# The pods of deploy/kubernetes are these accounts.
resource "google_service_account_iam_member" "kubernetes" {
  for_each = var.kubernetes_namespace == null ? toset([]) : local.daemons

  service_account_id = google_service_account.daemon[each.key].name
  role               = "roles/iam.workloadIdentityUser"
  member             = "serviceAccount:${var.project}.svc.id.goog[${var.kubernetes_namespace}/convpipe-${each.key}]"
}
