"""Who answers on which device."""
