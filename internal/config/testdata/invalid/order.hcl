replication "default" {}

launch "default" {}

server "db-1" {
  after = [server.web-1]
}

server "web-1" {
  after = [server.db-1, server.mx-1]
}

server "mx-1" {}

application "shop" {
  servers = [server.db-1, server.web-1]
  after   = [application.mail]
}

application "mail" {
  servers = [server.mx-1]
}

wave "first" {
  applications = [application.shop]
}

wave "second" {
  applications = [application.mail]
  after        = [wave.first]
}
