TIME_FORMAT = "H:i МСК"
DATETIME_FORMAT = "j E Y г., H:i МСК"
SHORT_DATETIME_FORMAT = "d.m.Y H:i МСК"
