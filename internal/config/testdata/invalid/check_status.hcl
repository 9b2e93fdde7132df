replication "default" {}
launch "default" {}
check "c" {
  kind   = "http"
  status = 700
}
