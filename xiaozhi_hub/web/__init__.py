"""The one HTTP application: OTA and WebSocket for devices, pages for people, APIs for programs."""
