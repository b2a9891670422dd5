# What Pub/Sub alone knows: how old the oldest message is that nobody has acked. convpipe cannot tell (docs/google.md), so these stand beside the rules of
# deploy/prometheus: ConvpipeBacklogOld, and that anything lies in the dead-letter topic at all.

resource "google_monitoring_alert_policy" "backlog_old" {
  for_each = length(var.notification_channels) == 0 ? {} : local.consumed

  display_name          = "convpipe: ${each.key} is behind"
  combiner              = "OR"
  notification_channels = var.notification_channels

  conditions {
    display_name = "the oldest event that is not written was published more than a minute ago"

    condition_threshold {
      filter          = "metric.type = \"pubsub.googleapis.com/subscription/oldest_unacked_message_age\" AND resource.type = \"pubsub_subscription\" AND resource.labels.subscription_id = \"${each.value}\""
      comparison      = "COMPARISON_GT"
      threshold_value = 60
      duration        = "300s"

      aggregations {
        alignment_period   = "60s"
        per_series_aligner = "ALIGN_MAX"
      }
    }
  }

  documentation {
    content = "docs/runbook.md#convpipebacklogold"
  }
}

resource "google_monitoring_alert_policy" "dead_letter" {
  count = length(var.notification_channels) == 0 ? 0 : 1

  display_name          = "convpipe: an event went to the dead-letter topic"
  combiner              = "OR"
  notification_channels = var.notification_channels

  conditions {
    display_name = "something lies in it"

    condition_threshold {
      filter          = "metric.type = \"pubsub.googleapis.com/subscription/num_undelivered_messages\" AND resource.type = \"pubsub_subscription\" AND resource.labels.subscription_id = \"${var.dead_letter_topic}\""
      comparison      = "COMPARISON_GT"
      threshold_value = 0
      duration        = "0s"

      aggregations {
        alignment_period   = "60s"
        per_series_aligner = "ALIGN_MAX"
      }
    }
  }

  documentation {
    content = "docs/runbook.md#convpipepoison"
  }
}
