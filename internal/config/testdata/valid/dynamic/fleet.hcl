variable "prefix" {
  default = "move"
}

locals {
  servers      = csvdecode(file("servers.csv"))
  applications = distinct([for s in local.servers : s.application])
}

replication "default" {
  tags = { wave = "${var.prefix}-1" }
}

launch "default" {}

dynamic "server" {
  for_each = local.servers
  labels   = [server.value.name]
  content {
    fence = server.value.fence
  }
}

dynamic "application" {
  for_each = local.applications
  labels   = [application.value]
  content {
    servers = [for s in local.servers : s.name if s.application == application.value]
  }
}
