application "a" {
  servers = []
  after   = [application.b]
}

application "b" {
  servers = []
  after   = [application.a]
}

wave "w" {
  applications = [application.a]
  after        = [wave.w]
}
