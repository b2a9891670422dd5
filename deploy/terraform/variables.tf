# Whoever describes itself by a key of the config has its default, and has to say what the config says: a test holds the two together.

variable "project" {
  description = "`bus.google.project` and `documents.firestore.project`"
  type        = string
}

variable "region" {
  description = "Where Redis is, and Firestore where it is made here"
  type        = string
  default     = "europe-west1"
}

variable "topic" {
  description = "`bus.topic`"
  type        = string
  default     = "convpipe-events"
}

variable "quarantine_topic" {
  description = "`bus.quarantine_topic`, and its subscription"
  type        = string
  default     = "convpipe-quarantine"
}

variable "dead_letter_topic" {
  description = "`bus.google.dead_letter_topic`, and its subscription"
  type        = string
  default     = "convpipe-dead-letter"
}

variable "views_subscription" {
  description = "`bus.views_subscription`"
  type        = string
  default     = "convpipe-views"
}

variable "documents_subscription" {
  description = "`bus.documents_subscription`"
  type        = string
  default     = "convpipe-documents"
}

variable "retention_s" {
  description = "`bus.google.retention_s`"
  type        = number
  default     = 604800
}

variable "lease_s" {
  description = "`bus.google.lease_s`"
  type        = number
  default     = 60
}

variable "ordering" {
  description = "`bus.google.ordering`; it cannot be changed once a subscription is there"
  type        = bool
  default     = true
}

variable "dead_letter_attempts_max" {
  description = "`bus.google.dead_letter_attempts_max`"
  type        = number
  default     = 100
}

variable "database" {
  description = "`documents.firestore.database`"
  type        = string
  default     = "(default)"
}

variable "create_database" {
  description = "Whether the Firestore database is made here; false where the project has it already"
  type        = bool
  default     = true
}

variable "network" {
  description = "The VPC from which Redis is reached, as projects/PROJECT/global/networks/NAME, with private services access"
  type        = string
}

variable "redis_memory_gb" {
  description = "Memory of Redis; docs/scaling.md says how much a conversation takes"
  type        = number
  default     = 5
}

variable "redis_highly_available" {
  description = "A replica that takes over. Redis fills again from the documents without one, too"
  type        = bool
  default     = true
}

variable "kubernetes_namespace" {
  description = "The namespace of deploy/kubernetes, whose service accounts become those made here; null: no Kubernetes"
  type        = string
  default     = "convpipe"
}

variable "notification_channels" {
  description = "Whom Cloud Monitoring tells, as projects/PROJECT/notificationChannels/ID; none: no alerts are made"
  type        = list(string)
  default     = []
}
