replication "default" {}
launch "default" {
  ssh {
    user = ""
    port = 0
  }
}
check "a" {
  kind    = "unit"
  process = "nginx"
}
check "b" {
  kind     = "dns"
  resolver = "10.0.0.2"
  answer   = "web-1"
}
check "c" {
  kind      = "ssh"
  exit_code = 256
  command   = []
}
check "d" {
  kind    = "http"
  headers = "text/html"
}
check "e" {
  kind = "mounts"
  free = "10"
}
check "f" {
  kind    = "process"
  process = ""
  timeout = 10
}
check "g" {
  kind = "instance"
  port = 80
}
