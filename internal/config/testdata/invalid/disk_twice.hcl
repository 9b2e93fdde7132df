replication "default" {}
launch "default" {}
server "a" {
  disks = ["/dev/sda", "/dev/sda"]
}
