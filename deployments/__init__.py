"""The only folder that knows Ray and HTTP: gateway, experts, control, command line."""
