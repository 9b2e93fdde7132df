replication "default" {
  window             = "128MB"
  stream_size        = 1024
  freeze_budget      = "5 minutes"
  volume_type        = "gp4"
  volumes_per_server = "15"
  tags               = { team = 7 }
}

launch "default" {
  instance_type = 3
  ingress_ports = [80, 70000]
  boot_mode     = "efi"
  network       = "static"
}

check "a" {
  kind    = "htp"
  timeout = "forever"
}

check "b" {
  kind   = "tcp"
  status = 200
}

check "c" {
  kind = "http"
  port = 0
  path = "index.html"
}

server "s" {
  disks = ["sda"]
  fence = "no"
}

server "t" {
  disks = "/dev/sda"
}
