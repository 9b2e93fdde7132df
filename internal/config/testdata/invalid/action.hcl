replication "default" {}
launch "default" {}
action "patch" {
  command = "yum update"
}
