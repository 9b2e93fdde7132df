replication "default" {}
launch "default" {}
server "a" {
  fence = "never"
}
