replication "default" {}
launch "default" {}
dynamic "server" {
  for_each = 3
  labels   = ["a"]
  content {}
}
