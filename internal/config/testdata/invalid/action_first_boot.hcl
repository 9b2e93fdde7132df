replication "default" {}
launch "default" {
  script "join" {
    content = "#!/bin/sh\n${join("", [for i in range(195) : "echo of many lines this is one\n"])}"
  }
}
action "join" {
  by         = "first-boot"
  repeatable = true
  content    = "#!/bin/sh\nrealm join example.org\n"
}
action "large" {
  by      = "first-boot"
  phase   = "test"
  content = "#!/bin/sh\n${join("", [for i in range(10) : "echo of many lines this is one\n"])}"
}
action "unknown" {
  by      = "ssm"
  content = "#!/bin/sh\n"
}
server "a" {
  actions = [action.join]
}
server "b" {
  actions = [action.large]
}
