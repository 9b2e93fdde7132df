replication "default" {}
launch "default" {}
server "a" {}
application "shop" {
  servers = "a"
}
