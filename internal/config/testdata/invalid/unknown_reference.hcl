replication "default" {}

launch "web" {}

launch "database" {}

server "web-1" {
  launch = launch.wbe
  checks = [check.http]
}

server "web-2" {
  launch = lunch.web
}

server "web-3" {
  launch = web
}

application "shop" {
  servers = [server.web-1, server.web-9]
}
