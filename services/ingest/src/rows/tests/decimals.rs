//! Decimals: every exact form of a number gives the same bytes, and what would lose digits is refused.

use super::*;

#[test]
fn decimals_come_in_every_exact_form_and_no_other() {
    let json = |price: serde_json::Value| {
        let mut row = good();
        row["price"] = price;
        row
    };
    let expected = encode(CALL, |encoder| {
        ["12.5", "-3", "0.000000000000000001"].iter().for_each(|price| encoder.json(&json(json!(price)), None));
    });
    assert_eq!(expected.accepted, 3);
    let units = 10i128.pow(18);
    let narrow = Decimal128Array::from(vec![125 * units / 10, -3 * units, 1]).with_precision_and_scale(38, 18).unwrap();
    let wide: ArrayRef = arrow_cast::cast(&narrow, &ArrowType::Decimal256(76, 30)).unwrap();
    let texts = StringArray::from(vec!["12.500", "-3e0", "1E-18"]);
    for prices in [Arc::new(narrow) as ArrayRef, wide, Arc::new(texts)] {
        let columns = [
            ("user_id", Arc::new(StringArray::from(vec!["u"; 3])) as ArrayRef),
            ("shop", Arc::new(Int64Array::from(vec![1; 3]))),
            ("ts", Arc::new(StringArray::from(vec!["2024-01-15T12:00:00Z"; 3]))),
            ("amount", Arc::new(Int64Array::from(vec![2; 3]))),
            ("price", prices),
        ];
        assert_eq!(from_arrow(&RecordBatch::try_from_iter(columns).unwrap()).partitions, expected.partitions);
    }
    // Whole numbers, and decimals with fewer digits.
    let whole = encode(CALL, |encoder| encoder.json(&json(json!(-3)), None));
    let narrow = Decimal128Array::from(vec![-300]).with_precision_and_scale(4, 2).unwrap();
    for prices in [Arc::new(Int8Array::from(vec![-3])) as ArrayRef, Arc::new(narrow)] {
        let columns = [
            ("user_id", Arc::new(StringArray::from(vec!["u"])) as ArrayRef),
            ("shop", Arc::new(Int64Array::from(vec![1]))),
            ("ts", Arc::new(StringArray::from(vec!["2024-01-15T12:00:00Z"]))),
            ("amount", Arc::new(Int64Array::from(vec![2]))),
            ("price", prices),
        ];
        assert_eq!(from_arrow(&RecordBatch::try_from_iter(columns).unwrap()).partitions, whole.partitions);
    }
    let refused = [
        (
            json!(12.5),
            "'price': expected Decimal, got 12.5 (hint: write it as text, such as \"12.50\": a JSON number with a point has lost digits when it is read)",
        ),
        (json!("12,5"), "'price': expected Decimal, got '12,5'"),
        (json!("NaN"), "'price': NaN is not a value"),
        (json!(true), "'price': expected Decimal, got true"),
        (
            json!("123456789012345678901"),
            "'price': 123456789012345678901 has 21 digits before the point, a Decimal at most 20 (hint: declare the field str, or float if the nearest one will do)",
        ),
        (
            json!("0.1234567890123456789"),
            "'price': 0.1234567890123456789 has 19 digits after the point, a Decimal at most 18 (hint: round it first, in Python with round(value, 18))",
        ),
    ];
    for (price, reason) in refused {
        let encoded = encode(CALL, |encoder| encoder.json(&json(price), None));
        assert_eq!(reasons(&encoded.rejected), [(0, reason)]);
    }
    let mut row = plain("u", 1, 5);
    row.insert("price".into(), Value::Float(12.5));
    let reason = "'price': expected Decimal, got the float 12.5 (hint: send a Decimal or its text; in Python Decimal(str(x)) is the number that is printed)";
    assert_eq!(reasons(&from_values(CALL, &[row]).rejected), [(0, reason)]);
    // A column's cell that does not fit leaves the others alone.
    let wide = Decimal128Array::from(vec![10i128.pow(37), 5]).with_precision_and_scale(38, 0).unwrap();
    let columns = [
        ("user_id", Arc::new(StringArray::from(vec!["u"; 2])) as ArrayRef),
        ("shop", Arc::new(Int64Array::from(vec![1; 2]))),
        ("ts", Arc::new(StringArray::from(vec!["2024-01-15T12:00:00Z"; 2]))),
        ("amount", Arc::new(Int64Array::from(vec![2; 2]))),
        ("price", Arc::new(wide)),
    ];
    let encoded = from_arrow(&RecordBatch::try_from_iter(columns).unwrap());
    assert_eq!(encoded.accepted, 1);
    assert!(encoded.rejected[0].reason.contains("has 38 digits before the point"), "{}", encoded.rejected[0].reason);
}
