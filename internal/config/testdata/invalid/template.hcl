replication "default" {}
launch "default" {}
launch "web" {
  user_data = templatefile("user-data.tftpl", { nmae = "a" })
}
