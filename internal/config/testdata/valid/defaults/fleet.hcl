replication "default" {}

launch "default" {}

check "web" {
  kind = "http"
}

check "01-screen" {
  kind = "console"
}

action "join" {
  content = "#!/bin/sh\n"
}

server "a" {
  checks = [check.web, check["01-screen"]]
}

application "a" {
  servers = [server.a]
}

wave "a" {
  applications = [application.a]
}
