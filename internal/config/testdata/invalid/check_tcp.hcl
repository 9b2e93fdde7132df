replication "default" {}
launch "default" {}
check "c" {
  kind = "tcp"
}
