replication "default" {}
launch "default" {}
launch "web" {
  tags = ["team"]
}
