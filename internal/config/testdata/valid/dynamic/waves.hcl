wave "first" {
  applications = values(application)
}
