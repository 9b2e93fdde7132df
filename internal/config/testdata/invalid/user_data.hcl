replication "default" {}
launch "default" {}
launch "web" {
  user_data = join("", [for n in range(1000) : "this line is far too long"])
}
