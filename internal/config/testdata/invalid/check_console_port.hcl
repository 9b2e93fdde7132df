replication "default" {}
launch "default" {}
check "c" {
  kind = "console"
  port = 22
}
