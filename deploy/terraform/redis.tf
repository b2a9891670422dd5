# Memorystore has one user, who may do everything: there nothing but convpipe's own manners keeps the readers from writing. Where that is not enough, run a
# Redis or Valkey of your own with scripts/redis.acl (docs/operations.md).
resource "google_redis_instance" "views" {
  name               = "convpipe-views"
  display_name       = "convpipe: the current state, refilled from the documents when it is lost"
  tier               = var.redis_highly_available ? "STANDARD_HA" : "BASIC"
  memory_size_gb     = var.redis_memory_gb
  redis_version      = "REDIS_7_2"
  region             = var.region
  authorized_network = var.network
  connect_mode       = "PRIVATE_SERVICE_ACCESS"
  auth_enabled       = true

  # An evicted key would be a conversation that is missing and not known to be. A fifth stays free for what the server itself needs.
  redis_configs = {
    "maxmemory-policy" = "noeviction"
    "maxmemory-gb"     = tostring(floor(var.redis_memory_gb * 8) / 10)
  }

  depends_on = [google_project_service.needed]
}
