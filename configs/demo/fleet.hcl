# What `make demo` migrates: one server with Apache, in one wave, to the local cloud.

replication "default" {
  volume_type   = "gp3"
  freeze_budget = "500ms"
}

launch "web" {
  instance_type = "t3.small"
  ingress_ports = [22, 80]
}

check "http" {
  kind     = "http"
  port     = 80
  path     = "/"
  contains = "This server keeps the ledger, and it has been up for a long time."
}

check "console" {
  kind     = "console"
  contains = "login:"
}

server "web-1" {
  launch = launch.web
  checks = [check.console, check.http]
}

application "ledger" {
  servers = [server.web-1]
}

wave "first" {
  applications = [application.ledger]
}
