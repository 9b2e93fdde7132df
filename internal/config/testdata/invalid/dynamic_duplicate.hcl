replication "default" {}
launch "default" {}
dynamic "server" {
  for_each = ["a", "a"]
  labels   = [server.value]
  content {}
}
