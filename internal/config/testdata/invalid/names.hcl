replication "default" {}
launch "default" {}

server "Web_1.example.com" {}

server "web-2" {}

server "web-2" {}

application "shop" {
  servers = [server.web-2, server.web-2]
}
