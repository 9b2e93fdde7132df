replication "default" {}

launch "default" {
  script "join" {
    content = "echo joined"
  }
  script "join" {
    phase   = "before"
    content = "#!/bin/sh\n"
  }
  script "../x" {
  }
  script "large" {
    content = "#!/bin/sh\n${join("", [for i in range(700) : "0123456789"])}"
  }
}
