replication "default" {}
launch "default" {}
server "a" {
  disks = ["sda"]
}
