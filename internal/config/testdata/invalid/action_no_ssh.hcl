replication "default" {}
launch "default" {}
action "join" {
  content = "#!/bin/sh\nrealm join example.org\n"
}
server "a" {
  actions = [action.join]
}
