replication "default" {}
launch "default" {}
launch "reached" {
  ssh {
    key_file = "/etc/rehost/keys/checks"
  }
}
action "patch" {
  command = "yum update"
}
action "join" {
  content      = "realm join example.org"
  phase        = "tests"
  must_succeed = "yes"
  repeatable   = 1
  timeout      = "0s"
}
action "large" {
  content = "#!/bin/sh\n${join("", [for i in range(1000) : "echo of many lines this is number ${i}\n"])}"
}
action "join" {
  content = "#!/bin/sh\n"
}
server "a" {
  launch  = launch.reached
  actions = [action.joined, action.patch]
}
server "b" {
  launch  = launch.reached
  actions = [action.large, action.large]
}
