# 1,000 servers, one line of servers.csv each: 200 applications in 10 waves.

locals {
  rows = csvdecode(file("servers.csv"))
  apps = { for row in local.rows : row.application => row.server... }
  plan = { for row in local.rows : row.wave => row.application... }
}

replication "default" {
  volume_type = "auto"
}

launch "default" {
  instance_type = "auto"
}

dynamic "launch" {
  for_each = toset([for row in local.rows : row.instance_type])
  iterator = type # else "launch" would be the iterator's name, and launch.default unknown
  labels   = [replace(type.value, ".", "-")]
  content {
    from          = launch.default
    instance_type = type.value
  }
}

dynamic "server" {
  for_each = local.rows
  labels   = [server.value.server]
  content {
    launch = replace(server.value.instance_type, ".", "-")
    disks  = split(" ", server.value.disks)
  }
}

dynamic "application" {
  for_each = local.apps
  labels   = [application.key]
  content {
    servers = application.value
  }
}

dynamic "wave" {
  for_each = local.plan
  labels   = [wave.key]
  content {
    applications = distinct(wave.value)
    concurrency  = 25
  }
}
