# TTL policies, indexes, and the indexes that there should not be: out of the one list, which a test holds to the code.

locals {
  firestore = jsondecode(file("${path.module}/../firestore.indexes.json"))
  fields    = { for field in local.firestore.fieldOverrides : "${field.collectionGroup}.${field.fieldPath}" => field }
  indexes   = { for index in local.firestore.indexes : "${index.collectionGroup}.${join(".", index.fields[*].fieldPath)}" => index }
}

resource "google_firestore_database" "documents" {
  count = var.create_database ? 1 : 0

  name                    = var.database
  location_id             = var.region
  type                    = "FIRESTORE_NATIVE"
  delete_protection_state = "DELETE_PROTECTION_ENABLED"
  deletion_policy         = "ABANDON"
  depends_on              = [google_project_service.needed]
}

resource "google_firestore_field" "all" {
  for_each = local.fields

  database   = var.database
  collection = each.value.collectionGroup
  field      = each.value.fieldPath

  # Without one of them the field has no index at all.
  index_config {
    dynamic "indexes" {
      for_each = each.value.indexes

      content {
        order       = indexes.value.order
        query_scope = indexes.value.queryScope
      }
    }
  }

  dynamic "ttl_config" {
    for_each = each.value.ttl ? [1] : []

    content {}
  }

  depends_on = [google_firestore_database.documents]
}

resource "google_firestore_index" "all" {
  for_each = local.indexes

  database    = var.database
  collection  = each.value.collectionGroup
  query_scope = each.value.queryScope

  dynamic "fields" {
    for_each = each.value.fields

    content {
      field_path = fields.value.fieldPath
      order      = fields.value.order
    }
  }

  depends_on = [google_firestore_database.documents]
}
