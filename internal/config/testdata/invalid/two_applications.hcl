replication "default" {}
launch "default" {}

server "web-1" {}

application "shop" {
  servers = [server.web-1]
}

application "blog" {
  servers = [server.web-1]
}

wave "a" {
  applications = [application.shop]
}

wave "b" {
  applications = [application.shop, application.blog]
}
